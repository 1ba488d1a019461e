// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles some files of a configured tree once more, for the warnings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::build::ConfiguredTree;
use crate::build_log;
use vmtest_base::beneath;
use vmtest_base::error::{IoContext, Result};
use vmtest_host::context::Context;
use vmtest_host::process::Job;

/// What a compilation with `W=1` said.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct ExtraWarnings {
    /// The objects that the configuration builds.
    pub compiled: BTreeSet<String>,
    /// A warning on each line.
    pub text: String,
}

impl ConfiguredTree<'_> {
    /// Compiles these objects, those that the configuration builds, with `W=1`: returns them and the warnings.
    /// The next make compiles them again as usual.
    ///
    /// # Errors
    /// Class `KernelBuild` if they do not compile.
    pub fn extra_warnings(&self, ctx: &Context, objects: &[String], log: &Path) -> Result<ExtraWarnings> {
        let obj = self.dir.join("obj");
        let built: Vec<&String> = objects.iter().filter(|object| beneath::is_file(&obj, object)).collect();
        let compiled: BTreeSet<String> = built.iter().map(|object| (*object).clone()).collect();
        if built.is_empty() {
            return Ok(ExtraWarnings::default());
        }
        for object in &built {
            // Else make finds nothing to do for one that was compiled with W=1 before.
            let path = obj.join(object);
            fs::remove_file(&path).on("cannot remove", &path)?;
        }
        let sandbox = self.sandbox(ctx)?;
        let mut command = self.make(&sandbox);
        command.arg(format!("-j{}", self.recipe.make.jobs)).arg("W=1").args(built);
        let done = self.run_make(Job::new(command).log(log))?;
        if !done.success() {
            return Err(self.failed("does not compile with W=1", &done, log));
        }
        Ok(ExtraWarnings { compiled, text: build_log::warnings(&self.relative(log)) })
    }
}

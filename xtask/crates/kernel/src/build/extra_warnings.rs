// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles some files of a configured tree once more, for the warnings.

use std::fs;
use std::path::Path;

use crate::build::ConfiguredTree;
use crate::build_log;
use vmtest_base::beneath;
use vmtest_base::error::{IoContext, Result};
use vmtest_host::context::Context;
use vmtest_host::process::Job;

impl ConfiguredTree<'_> {
    /// The warnings of `W=1` for these objects, those that the configuration builds. The next make builds them
    /// again as usual.
    ///
    /// # Errors
    /// Class `KernelBuild` if they do not compile.
    pub fn extra_warnings(&self, ctx: &Context, objects: &[String], log: &Path) -> Result<String> {
        let obj = self.dir.join("obj");
        let built: Vec<&String> = objects.iter().filter(|object| beneath::is_file(&obj, object)).collect();
        if built.is_empty() {
            return Ok(String::new());
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
        Ok(build_log::warnings(&self.relative(log)))
    }
}

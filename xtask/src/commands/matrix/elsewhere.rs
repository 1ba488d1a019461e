// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--executor`: runs each job of a matrix through a command, and merges the runs here.

use std::collections::BTreeMap;

use crate::commands::matrix::{Came, Planned, Run};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::thread::join as join_thread;
use vmtest_engine::matrix::executor::Executor;
use vmtest_engine::matrix::files;
use vmtest_engine::matrix::join::{self, Gap, Part};
use vmtest_host::slots::{Capacity, Demand, Slots};
use vmtest_host::store::remove_tree;
use vmtest_record::outcome::Outcome;

impl Run<'_> {
    /// Runs each job through a command.
    pub(super) fn elsewhere(&self, mine: &[Planned<'_>], executor: &Executor) -> Result<Came> {
        let (run_dir, outputs) = self.open()?;
        let file = std::path::absolute(&self.matrix.path).unwrap_or_else(|_| self.matrix.path.clone());
        let logs = run_dir.dir("jobs")?;
        let room = Slots::new(Capacity::of(self.room().holders));
        let ran: Vec<(String, std::result::Result<Part, Gap>)> = std::thread::scope(|scope| {
            let mut order: Vec<&Planned<'_>> = mine.iter().collect();
            order.sort_by_key(|one| std::cmp::Reverse(one.weight));
            let threads: Vec<_> = order
                .into_iter()
                .map(|one| {
                    let (room, logs, file) = (&room, &logs, &file);
                    scope.spawn(move || {
                        let _place = room.acquire(one.weight, Demand::default());
                        let axes = &one.job.axes;
                        let phase = self.ctx.bus.phase("executor", &axes.id);
                        let (out, log) = (logs.join(&axes.id), logs.join(format!("{}.log", axes.id)));
                        let part = executor.run(self.frame, axes, file, &out, log);
                        match &part {
                            Ok(_) => phase.finish(),
                            Err(gap) => self.ctx.bus.warn(format!("{}: {}", axes.id, gap.reason)),
                        }
                        (axes.id.clone(), part)
                    })
                })
                .collect();
            threads.into_iter().map(join_thread).collect()
        });
        let (mut parts, mut gaps) = (Vec::new(), BTreeMap::new());
        for (id, came) in ran {
            let adopted = came.and_then(|mut part| {
                let out = logs.join(&id);
                let gap = |error: Error| Gap {
                    outcome: Outcome::Notrun,
                    class: Class::Host,
                    reason: error.summary(),
                };
                files::adopt(&out, &part.run, &run_dir).map_err(gap)?;
                // Its files have been copied.
                remove_tree(&out);
                let jobs = part.run.matrix.iter_mut().flat_map(|matrix| &mut matrix.jobs);
                jobs.for_each(|job| job.executor.clone_from(&self.args.executor));
                Ok(part)
            });
            match adopted {
                Ok(part) => parts.push(part),
                Err(gap) => drop(gaps.insert(id, gap)),
            }
        }
        let mut result = join::join(self.frame, parts, &gaps)?;
        self.sign(&mut result, &run_dir);
        Ok((result, run_dir, outputs))
    }
}

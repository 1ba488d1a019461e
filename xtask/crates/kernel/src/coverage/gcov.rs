// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads counters with the gcov of the compiler that made the kernel.
//!
//! How it could be wrong: gcov counts a statement at its first line, and the optimiser can merge lines; a line that it gives no
//! count has no code of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use vmtest_base::beneath;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::write_file;
use vmtest_host::process::{Job, Stream};
use vmtest_host::sandbox::{Sandbox, Tools};

/// Time limit of one call; it takes a fraction of a second for each object.
const LIMIT: Duration = Duration::from_secs(120);
/// Largest result of one object: the verifier has 3 MB.
const LARGEST: u64 = 256 << 20;

/// Whether each line with code ran, by file of the tree.
pub type Executed = BTreeMap<String, BTreeMap<u64, bool>>;

/// gcov, and the compiler's notes of one kernel.
#[derive(Debug)]
pub struct Reader<'a> {
    tools: &'a Tools,
    /// Paths of the notes below the object directory, without an ending.
    objects: Vec<String>,
    /// Where they are, each under its number, and where the counters go.
    dir: tempfile::TempDir,
}

#[derive(Deserialize)]
struct Document {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    file: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    line_number: u64,
    count: u64,
}

impl<'a> Reader<'a> {
    /// Takes the notes of a kernel from a directory.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(tools: &'a Tools, notes: &Path) -> Result<Reader<'a>> {
        let dir = tempfile::tempdir().map_err(|error| Error::host("cannot make a directory").why(error))?;
        let mut objects = Vec::new();
        for entry in walkdir::WalkDir::new(notes).sort_by_file_name().into_iter().flatten() {
            let below = entry.path().strip_prefix(notes).ok().and_then(Path::to_str);
            if let Some(object) = below.and_then(|below| below.strip_suffix(".gcno")) {
                let to = dir.path().join(format!("{}.gcno", objects.len()));
                fs::copy(entry.path(), &to).on("cannot copy", entry.path())?;
                objects.push(object.to_owned());
            }
        }
        Ok(Reader { tools, objects, dir })
    }

    /// The C files that have notes.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.objects.iter().map(|object| format!("{object}.c"))
    }

    /// Every line with code; none of them ran.
    ///
    /// # Errors
    /// Class `Host` if gcov fails.
    pub fn read_all(&self) -> Result<Executed> {
        let all: Vec<usize> = (0..self.objects.len()).collect();
        // It says of each object that it has no data.
        self.run(&all, |_| ())
    }

    /// The lines of these data files (path below the object directory, content), and whether they ran.
    ///
    /// # Errors
    /// Class `Host` if gcov fails or does not understand them.
    pub fn read(&self, data: &BTreeMap<String, Vec<u8>>) -> Result<Executed> {
        let no = |why: String| Error::host("gcov cannot read the counters of the kernel").why(why);
        let mut counted = Vec::new();
        for (name, bytes) in data {
            let at = self.objects.iter().position(|object| format!("{object}.gcda") == *name);
            let at = at.ok_or_else(|| no(format!("the kernel was built without notes for {name}")))?;
            write_file(&self.dir.path().join(format!("{at}.gcda")), bytes)?;
            counted.push(at);
        }
        // It warns of data of another build, and goes on as if nothing had run.
        let mut complaint = String::new();
        let executed = self.run(&counted, |line| complaint = line.to_owned())?;
        counted.iter().for_each(|at| drop(fs::remove_file(self.dir.path().join(format!("{at}.gcda")))));
        if complaint.is_empty() { Ok(executed) } else { Err(no(complaint)) }
    }

    /// `complains` gets what gcov says on its standard error.
    fn run(&self, objects: &[usize], mut complains: impl FnMut(&str)) -> Result<Executed> {
        if objects.is_empty() {
            return Ok(Executed::new());
        }
        let sandbox = Sandbox::new(self.tools).writable(self.dir.path(), "/obj");
        let here = sandbox.see("/obj");
        let mut command = sandbox.command("sh");
        command.args(["-c", "cd \"$0\" && exec gcov --json-format \"$@\""]).arg(&here);
        command.args(objects.iter().map(|at| format!("{at}.gcda")));
        let job = Job::new(command).deadline(LIMIT).on_line(|stream, line| {
            if stream == Stream::Err {
                complains(line);
            }
        });
        job.run()?.ok("gcov cannot read the counters of the kernel")?;
        let mut executed = Executed::new();
        for at in objects {
            let (object, document) = (&self.objects[*at], self.document(*at)?);
            // Names are as the compiler saw them, in the sandbox or on the host.
            let own = format!("{object}.c");
            let tree =
                document.files.iter().find_map(|file| file.file.strip_suffix(&own)).ok_or_else(|| {
                    Error::host("gcov's result cannot be read").why(format!("it does not name {own}"))
                })?;
            for file in &document.files {
                let path = file.file.strip_prefix(tree).unwrap_or(&file.file);
                let lines = executed.entry(path.to_owned()).or_default();
                for line in &file.lines {
                    *lines.entry(line.line_number).or_default() |= line.count > 0;
                }
            }
        }
        Ok(executed)
    }

    /// What gcov wrote for an object, which is removed. Its name depends on the version: `0.gcov.json.gz`, or with the
    /// ending of the data file before that.
    fn document(&self, at: usize) -> Result<Document> {
        let no = |why: String| Error::host("gcov's result cannot be read").why(why);
        let names = ["gcov.json.gz", "gcda.gcov.json.gz"].map(|end| format!("{at}.{end}"));
        let name = names.iter().find(|name| beneath::is_file(self.dir.path(), name));
        let name = name.ok_or_else(|| no(format!("it did not write {}", names[0])))?;
        let packed = beneath::read_up_to(self.dir.path(), name, LARGEST)?;
        drop(fs::remove_file(self.dir.path().join(name)));
        let mut text = Vec::new();
        let mut unpacked = flate2::read::GzDecoder::new(&packed[..]).take(LARGEST);
        unpacked.read_to_end(&mut text).map_err(|error| no(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| no(error.to_string()))
    }
}

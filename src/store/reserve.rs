//! Disk space that is set aside while a run is recorded. When the disk is full, it is given back, so
//! that the run can still be stored as failed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// More than the end of an attempt needs: a few pages of the log and SQLite's shared memory.
const BYTES: usize = 1 << 18;

/// Held by an open file without a name, so that nothing is left behind however the program ends.
#[derive(Debug)]
pub struct Reserve(Option<File>);

impl Reserve {
    /// In the folder of the database; nothing where that cannot be.
    pub fn beside(database: &Path, run: i64) -> Self {
        if !cfg!(unix) {
            return Self(None);
        }
        let name = format!(".repro-reserve-{}-{run}", std::process::id());
        let path = database.with_file_name(name);
        let reserve = File::create_new(&path).and_then(|mut file| {
            std::fs::remove_file(&path)?;
            file.write_all(&vec![0; BYTES])?;
            Ok(file)
        });
        Self(reserve.ok())
    }

    /// Gives the space back.
    pub fn release(&mut self) {
        self.0 = None;
    }
}

//! A child process that never outlives its owner.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

/// Kills the child when dropped. On Linux the child also dies with this program when that is killed.
#[derive(Debug)]
pub struct ChildGuard(Child);

impl ChildGuard {
    /// Starts the command.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        die_with_parent(command);
        command.spawn().map(Self)
    }

    /// Asks the child to end (SIGTERM); where there are no signals, kills it.
    #[allow(unsafe_code)]
    pub fn terminate(&mut self) {
        #[cfg(unix)]
        // SAFETY: the call takes no pointers, and the child is not reaped before `self` is dropped or
        // waited for, so the number is its own.
        unsafe {
            if matches!(self.0.try_wait(), Ok(None)) {
                libc::kill(self.0.id().cast_signed(), libc::SIGTERM);
            }
        }
        #[cfg(not(unix))]
        let _ = self.0.kill();
    }
}

/// Lets the kernel kill the child when the thread that starts it ends.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            // SAFETY: the call takes no pointers. Without it the child may outlive a killed parent.
            let _ = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

impl Deref for ChildGuard {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for ChildGuard {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Both fail when the child has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

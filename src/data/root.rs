//! The data folder, with one subfolder per data set.

use super::DataError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The data folder: the flag, else `REPRO_DATA`, else `repro/data` in the user's cache folder
/// (`XDG_CACHE_HOME`, or `.cache` in `HOME`). It need not exist yet.
///
/// # Errors
/// When none of these is set.
pub fn data_root(flag: Option<PathBuf>) -> Result<PathBuf, DataError> {
    resolve(flag, |name| std::env::var_os(name))
}

fn resolve(
    flag: Option<PathBuf>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, DataError> {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = || {
        // The XDG specification says to ignore a relative path.
        set("XDG_CACHE_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("repro").join("data"))
    };
    let root = flag.or_else(|| set("REPRO_DATA")).or_else(cache).ok_or(DataError::NoRoot)?;
    // npm runs in another folder, where a relative path would mean something else.
    std::path::absolute(&root).map_err(DataError::reading(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<PathBuf, DataError> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name);
        resolve(flag.map(PathBuf::from), |name| find(name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn the_flag_precedes_variables() {
        let all = [("REPRO_DATA", "/env"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/someone")];
        assert_eq!(with(Some("/flag"), &all).unwrap(), Path::new("/flag"));
        assert_eq!(with(None, &all).unwrap(), Path::new("/env"));
        assert_eq!(with(None, &all[1..]).unwrap(), Path::new("/xdg/repro/data"));
        assert_eq!(with(None, &all[2..]).unwrap(), Path::new("/someone/.cache/repro/data"));
        assert!(matches!(with(None, &[]), Err(DataError::NoRoot)));
    }

    #[test]
    fn empty_and_relative_variables_are_ignored() {
        let odd = [("REPRO_DATA", ""), ("XDG_CACHE_HOME", "here"), ("HOME", "/someone")];
        assert_eq!(with(None, &odd).unwrap(), Path::new("/someone/.cache/repro/data"));
    }
}

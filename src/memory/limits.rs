//! How much memory this process can still take (Linux): what the machine has, and what the limits of
//! its control groups and the resource limits of the process leave.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Where control groups are mounted.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The smallest of what all limits leave; `None` where the operating system tells none of them.
pub(super) fn available_bytes() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    [
        kib_of(&read("/proc/meminfo"), "MemAvailable:"),
        left_by_cgroups(Path::new(CGROUP_ROOT), &read("/proc/self/cgroup")),
        left_by_resource_limits(&read("/proc/self/limits"), &status),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// The bytes of a line such as `VmRSS:   1024 kB`.
pub(super) fn kib_of(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// File names and fields of a control group's memory controller.
struct Controller {
    limit: &'static str,
    usage: &'static str,
    /// Cached files, of the group and those below it, in `memory.stat`.
    cached: [&'static str; 2],
}

const V1: Controller = Controller {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file ", "total_active_file "],
};

const V2: Controller = Controller {
    limit: "memory.max",
    usage: "memory.current",
    cached: ["inactive_file ", "active_file "],
};

/// What the limits of the process' control groups leave, version 1 and 2: of the groups that
/// `self_cgroup` (the text of `/proc/self/cgroup`) names, of all groups around them, and of the roots
/// of the hierarchies, which are the process' own groups in a container. `None` without a limit.
fn left_by_cgroups(root: &Path, self_cgroup: &str) -> Option<u64> {
    // A line is `hierarchy:controllers:path`; version 2 has hierarchy 0 and no controllers.
    let path_of = |is_it: fn(&str, &str) -> bool| {
        let mut lines = self_cgroup.lines().filter_map(|line| {
            let (hierarchy, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            is_it(hierarchy, controllers).then_some(path)
        });
        lines.next().unwrap_or_default()
    };
    let v1 = path_of(|_, controllers| controllers.split(',').any(|name| name == "memory"));
    let v2 = path_of(|hierarchy, controllers| hierarchy == "0" && controllers.is_empty());
    let hierarchies =
        [(root.to_owned(), v2, V2), (root.join("unified"), v2, V2), (root.join("memory"), v1, V1)];
    let left = hierarchies.iter().flat_map(|(mount, path, controller)| {
        folders_down_to(mount, path).into_iter().filter_map(|folder| left_by(&folder, controller))
    });
    left.min()
}

/// The folders of a hierarchy from its root down to the group at `path`.
fn folders_down_to(mount: &Path, path: &str) -> Vec<PathBuf> {
    let mut folders = vec![mount.to_owned()];
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => folders.push(folders[folders.len() - 1].join(name)),
            // A group outside this process' view of the hierarchy: only the root is to be seen.
            Component::ParentDir => return vec![mount.to_owned()],
            _ => {}
        }
    }
    folders
}

/// What the limit of one group leaves.
fn left_by(folder: &Path, controller: &Controller) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (limit, used) = (number(&read(controller.limit)?)?, number(&read(controller.usage)?)?);
    // Cached files are given up under pressure.
    let stat = read("memory.stat").unwrap_or_default();
    let of = |field: &str| stat.lines().find_map(|line| number(line.strip_prefix(field)?));
    let cached = controller.cached.into_iter().filter_map(of).sum();
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

/// What `RLIMIT_AS` and `RLIMIT_DATA` leave, by the texts of `/proc/self/limits` and
/// `/proc/self/status`. `None` without a limit.
fn left_by_resource_limits(limits: &str, status: &str) -> Option<u64> {
    let left = |(limit, used): (&str, &str)| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
        // The soft limit comes first; it is `unlimited`, or bytes.
        let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(limit.saturating_sub(kib_of(status, used).unwrap_or(0)))
    };
    let all = [("Max address space", "VmSize:"), ("Max data size", "VmData:")];
    all.into_iter().filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of control groups: path and content of each file.
    fn cgroups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
        root
    }

    #[test]
    fn version_1_limits_count() {
        let root = cgroups(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/memory.usage_in_bytes", "500"),
            ("memory/job/memory.limit_in_bytes", "1000"),
            ("memory/job/memory.usage_in_bytes", "700"),
            ("memory/job/memory.stat", "total_inactive_file 100\ntotal_active_file 50"),
        ]);
        let left = |text| left_by_cgroups(root.path(), text);
        assert_eq!(left("4:cpu,memory:/job\n0::/"), Some(1000 - (700 - 150)));
        assert_eq!(left("4:memory:/"), Some(9_223_372_036_854_771_212));
        assert_eq!(left(""), Some(9_223_372_036_854_771_212));
    }

    #[test]
    fn a_container_sees_its_group_as_the_root() {
        // The path is the host's, and no such folder is mounted.
        let v1 = cgroups(&[
            ("memory/memory.limit_in_bytes", "90000000"),
            ("memory/memory.usage_in_bytes", "80000000"),
        ]);
        assert_eq!(left_by_cgroups(v1.path(), "4:memory:/docker/1234\n"), Some(10_000_000));
        let v2 = cgroups(&[("memory.max", "900"), ("memory.current", "850")]);
        assert_eq!(left_by_cgroups(v2.path(), "0::/../other\n"), Some(50));
    }

    #[test]
    fn every_nested_version_2_group_counts() {
        let root = cgroups(&[
            ("slurm/memory.max", "2000"),
            ("slurm/memory.current", "1900"),
            ("slurm/memory.stat", "anon 1\ninactive_file 30\nactive_file 20"),
            ("slurm/job/memory.max", "max"),
            ("slurm/job/memory.current", "1800"),
            ("slurm/job/step/memory.max", "1000"),
            ("slurm/job/step/memory.current", "400"),
        ]);
        let left = |text| left_by_cgroups(root.path(), text);
        assert_eq!(left("0::/slurm/job/step\n"), Some(150));
        assert_eq!(left("0::/slurm/job\n"), Some(150));
        assert_eq!(left("0::/other\n"), None);
    }

    #[test]
    fn usage_above_the_limit_leaves_nothing() {
        let root = cgroups(&[("unified/a/memory.max", "10"), ("unified/a/memory.current", "11")]);
        assert_eq!(left_by_cgroups(root.path(), "4:memory:/b\n0::/a\n"), Some(0));
    }

    #[test]
    fn resource_limits_count() {
        let status = "Name:\trepro\nVmSize:\t    2000 kB\nVmData:\t     500 kB\n";
        let limits = |address: &str, data: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data}            unlimited            bytes     \n\
                 Max address space         {address}            unlimited            bytes     \n"
            )
        };
        let left = |address, data| left_by_resource_limits(&limits(address, data), status);
        assert_eq!(left("unlimited", "unlimited"), None);
        assert_eq!(left("4096000", "unlimited"), Some(2000 * 1024));
        assert_eq!(left("4096000", "1024000"), Some(500 * 1024));
        assert_eq!(left("1000", "unlimited"), Some(0));
        assert_eq!(left_by_resource_limits("", ""), None);
    }
}

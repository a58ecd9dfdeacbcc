//! What the kernel says about this process.

use std::fs;

use crate::foundation::metrics::Metrics;

/// Ticks per second in `/proc/self/stat`; the kernel shows user space this number on every architecture.
const TICKS_PER_SECOND: u32 = 100;

/// Facts of this process, as far as `/proc` tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFacts {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Memory in use.
    pub resident_bytes: u64,
    /// Address space in use.
    pub virtual_bytes: u64,
    /// Threads.
    pub n_threads: u64,
    /// Open file descriptors.
    pub n_open_fds: u64,
    /// Limit of open file descriptors.
    pub fds_max: u64,
    /// When it started, in seconds since the Unix epoch.
    pub start_seconds: f64,
}

/// Reads the facts now.
pub fn process_facts() -> ProcessFacts {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut facts = parse_facts(
        &read("/proc/self/stat"),
        &read("/proc/self/status"),
        &read("/proc/stat"),
    );
    facts.fds_max = parse_fds_max(&read("/proc/self/limits"));
    facts.n_open_fds = fs::read_dir("/proc/self/fd")
        .map(|entries| entries.count() as u64)
        .unwrap_or_default();
    facts
}

/// Where control groups say how much memory their members may have: version 2, and version 1.
const CGROUP_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Bytes of memory this process may have: the machine's, or what its control group allows if that is less.
pub fn memory_bytes() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    memory_limit(&read("/proc/meminfo"), &CGROUP_LIMITS.map(read))
}

fn memory_limit(meminfo: &str, cgroups: &[String; 2]) -> u64 {
    let machine = match number_after(meminfo, "MemTotal:") {
        0 => u64::MAX,
        kib => kib.saturating_mul(1024),
    };
    let limits = cgroups.iter().filter_map(|text| text.trim().parse().ok());
    limits.chain([machine]).min().unwrap_or(machine)
}

/// Adds the `process_*` metrics that every client library exposes.
pub fn register_process_metrics(metrics: &Metrics) {
    metrics.read(|readings| {
        let facts = process_facts();
        readings.counter_f64(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            facts.cpu_seconds,
        );
        readings.gauge_of(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            facts.resident_bytes,
        );
        readings.gauge_of(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            facts.virtual_bytes,
        );
        readings.gauge_of(
            "process_threads",
            "Number of threads in the process.",
            facts.n_threads,
        );
        readings.gauge_of(
            "process_open_fds",
            "Number of open file descriptors.",
            facts.n_open_fds,
        );
        readings.gauge_of(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            facts.fds_max,
        );
        readings.gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            facts.start_seconds,
        );
    });
}

fn parse_facts(stat: &str, status: &str, system: &str) -> ProcessFacts {
    // The command name may hold spaces; the fields after its closing parenthesis do not.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = |position: usize| -> u32 {
        let field = fields.get(position).and_then(|field| field.parse().ok());
        field.unwrap_or_default()
    };
    let seconds = |ticks: u32| f64::from(ticks) / f64::from(TICKS_PER_SECOND);
    let kib = |name| number_after(status, name).saturating_mul(1024);
    let boot_seconds = u32::try_from(number_after(system, "btime")).unwrap_or_default();
    ProcessFacts {
        cpu_seconds: seconds(ticks(11).saturating_add(ticks(12))),
        resident_bytes: kib("VmRSS:"),
        virtual_bytes: kib("VmSize:"),
        n_threads: number_after(status, "Threads:"),
        n_open_fds: 0,
        fds_max: 0,
        start_seconds: f64::from(boot_seconds) + seconds(ticks(19)),
    }
}

fn parse_fds_max(limits: &str) -> u64 {
    number_after(limits, "Max open files")
}

/// The number that follows `name` at the start of a line.
fn number_after(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 16 0 4200 1 2 3";
        let status = "VmSize:\t    2048 kB\nVmRSS:\t     512 kB\nThreads:\t16\n";
        let facts = parse_facts(stat, status, "btime 1000\n");
        let expect = ProcessFacts {
            cpu_seconds: 3.0,
            resident_bytes: 512 * 1024,
            virtual_bytes: 2048 * 1024,
            n_threads: 16,
            n_open_fds: 0,
            fds_max: 0,
            start_seconds: 1042.0,
        };
        assert_eq!(facts, expect);
    }

    #[test]
    fn memory_is_the_machines_unless_a_control_group_allows_less() {
        let limit = |version_2: &str, version_1: &str| {
            let cgroups = [version_2.to_owned(), version_1.to_owned()];
            memory_limit("MemFree: 1 kB\nMemTotal:       2048 kB\n", &cgroups)
        };
        assert_eq!(limit("", ""), 2 << 20);
        assert_eq!(limit("max\n", ""), 2 << 20);
        assert_eq!(limit("1048576\n", ""), 1 << 20);
        assert_eq!(limit("", "9223372036854771712\n"), 2 << 20);
        assert_eq!(memory_limit("", &[String::new(), String::new()]), u64::MAX);
        assert!((1 << 20) < memory_bytes());
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let facts = process_facts();
        assert!(0 < facts.resident_bytes && 0 < facts.n_threads && 0 < facts.n_open_fds);
        assert!(facts.n_open_fds <= facts.fds_max);
    }
}

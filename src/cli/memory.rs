//! The memory that this process may take before the system would end it. Every command checks it before it begins. The
//! library computes how much memory a piece of work needs.
//!
//! Only Linux reports the available memory. On other systems the answer is "unknown", and no work is refused.

use aircache::files::Files;
use aircache::golden::Bundle;
use aircache::input::Prepared;
use aircache::model::{Model, Rounded};
use aircache::pass::Precision;
use aircache::{Error, Result};

/// The environment variable that sets the available memory instead of the system: `12GB`, `500MB`, or a number of
/// bytes.
pub const VARIABLE: &str = "AIRCACHE_MEMORY";

/// Below this number of bytes the system is not asked: the question takes a millisecond, which is as long as the work
/// that needs so little memory.
const SMALL: u64 = 32 << 20;

/// Fails if `need` bytes are more than the available memory; `at` names the part that needs the memory.
///
/// # Errors
/// `need` exceeds the available memory; the value of [`VARIABLE`] is no size.
pub fn check(at: &str, need: u64) -> Result<()> {
    let free = match std::env::var_os(VARIABLE) {
        None if need < SMALL => return Ok(()),
        None => available(),
        Some(text) => Some(size(&text.to_string_lossy())?),
    };
    let free = free.unwrap_or(u64::MAX);
    if need <= free {
        return Ok(());
    }
    let gb = |n: u64| {
        if n < 1_000_000_000 { format!("{:.1} MB", n as f64 / 1e6) } else { format!("{:.1} GB", n as f64 / 1e9) }
    };
    let remedy = format!("end other programs; {VARIABLE}={}GB tries it all the same", need.div_ceil(1_000_000_000));
    Err(Error::new(at, format!("{} of free memory", gb(need)), gb(free)).remedy(remedy))
}

/// Fails if there is not enough memory for a prompt. The weights are already in memory and do not count.
///
/// # Errors
/// As [`check`].
pub fn check_prompt(model: &Model, prompt: &Prepared) -> Result<()> {
    let held = model.checkpoint.bytes() - model.checkpoint.mapped_bytes();
    check(model.checkpoint.label(), model.forecast(Some(prompt)).saturating_sub(held))
}

/// Fails if there is not enough memory for `copies` copies of the bundle's largest stage, in f64.
///
/// # Errors
/// As [`check`].
pub fn check_stages(bundle: &Bundle, copies: u64) -> Result<()> {
    let Some(stage) = bundle.largest() else { return Ok(()) };
    check(&format!("{}: {}", bundle.label(), stage.name), copies * size_of::<f64>() as u64 * stage.numbers() as u64)
}

/// Loads a checkpoint, after a check that there is memory for the tensors that must be copied.
///
/// # Errors
/// As [`Model::load`] and [`check`].
pub fn load(files: &Files) -> Result<Model> {
    Model::load_if(files, |weights| check(weights.label(), weights.copied_bytes()))
}

/// The model in the type of a precision. If the type needs a copy of the weights, the memory for the copy is checked
/// first.
///
/// # Errors
/// As [`check`].
pub fn rounded(model: &Model, precision: Precision) -> Result<Rounded<'_>> {
    check(model.checkpoint.label(), model.checkpoint.rounded_bytes(precision.grid()))?;
    model.rounded(precision.grid())
}

/// `12GB`, `500MB` or a number of bytes.
fn size(text: &str) -> Result<u64> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("", 1)];
    let sized = units.iter().find_map(|(unit, size)| text.strip_suffix(unit).map(|n| (n, *size)));
    let bytes = sized.and_then(|(n, size)| n.trim().parse::<u64>().ok()?.checked_mul(size));
    bytes.ok_or_else(|| Error::new(VARIABLE, "a size such as 12GB, 500MB or a number of bytes", format!("{text:?}")))
}

/// Bytes that the process can still take: the memory that the system has free or can free, or less if a control group
/// or a limit on address space (`ulimit -v`) allows less.
fn available() -> Option<u64> {
    let system = field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:").map(|kib| kib * 1024);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let second = within(&groups, "", "", ["memory.max", "memory.current", "inactive_file"]);
    let first =
        within(&groups, "memory", "/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"]);
    [system, second, first, space()].into_iter().flatten().min()
}

/// The smallest number of bytes that the process's control group of a controller and the groups around it still allow.
/// groups: lines of the form `number:controllers:/folder/in/folder`.
fn within(groups: &str, controller: &str, mount: &str, names: [&str; 3]) -> Option<u64> {
    let ours = |line: &&str| line.split(':').nth(1).is_some_and(|all| all.split(',').any(|one| one == controller));
    let folder = groups.lines().find(ours).and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or("/");
    let outer = folder.match_indices('/').map(|(at, _)| &folder[..at]);
    outer.chain([folder.trim_end_matches('/')]).filter_map(|folder| group(&format!("{mount}{folder}/"), names)).min()
}

/// The bytes that a limit on address space still allows. Mapped files do not count as used memory, because a need
/// already includes the weights.
fn space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let limit = field(&limits, "Max address space")?; // none if the limit is `unlimited`
    let used = std::fs::read_to_string("/proc/self/maps").ok()?.lines().filter_map(anonymous).sum();
    Some(limit.saturating_sub(used))
}

/// The size in bytes of a mapping without a file, from its line in `maps`: `start-end rights offset device inode`.
fn anonymous(line: &str) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let of_file = fields.nth(3)? != "0";
    let size = u64::from_str_radix(end, 16).ok()?.checked_sub(u64::from_str_radix(start, 16).ok()?)?;
    (!of_file).then_some(size)
}

/// The bytes that a control group still allows: its limit minus its usage. Cached files that the group would drop first
/// do not count as usage.
fn group(folder: &str, [limit, used, files]: [&str; 3]) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup{folder}{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let files = read("memory.stat").and_then(|text| field(&text, files)).unwrap_or(0);
    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(files)))
}

/// The number after `name` on the line that begins with it.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix([' ', '\t']))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "inactive_file_x 3\ninactive_file 7\nVmRSS:\t  123 kB\n";
        assert_eq!(
            (field(text, "inactive_file"), field(text, "VmRSS:"), field(text, "VmR")),
            (Some(7), Some(123), None)
        );
    }

    #[test]
    fn groups_are_asked_for_by_their_lines() {
        // These folders do not exist, so the result is unknown.
        let names = ["memory.max", "memory.current", "inactive_file"];
        assert_eq!(within("0::/no/such/group\n3:cpu,memory:/nor/this", "memory", "/nowhere", names), None);
        assert_eq!(within("", "", "/nowhere", names), None);
    }

    #[test]
    fn mapped_files_are_left_out() {
        let of = |rest: &str| anonymous(&format!("7f00-8f00 rw-p 00000000 {rest}"));
        assert_eq!([of("00:00 0 "), of("00:00 0    [heap]"), of("fe:00 17 /w")], [Some(0x1000), Some(0x1000), None]);
    }

    #[test]
    fn sizes_have_units() {
        let of = |text: &str| size(text).ok();
        assert_eq!([of("12GB"), of("500MB"), of("7")], [Some(12_000_000_000), Some(500_000_000), Some(7)]);
        assert_eq!([of(""), of("GB"), of("-1"), of("1kB"), of("99999999999GB")], [None; 5]);
    }

    #[test]
    fn a_need_beyond_what_is_free_is_an_error() {
        assert!(check("model", 1 << 62).is_err() || available().is_none());
        check("model", 0).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn some_memory_is_free() {
        assert!(available().expect("Linux tells") > 0);
    }
}

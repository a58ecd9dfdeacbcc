//! Blocks as lines, as promtool prints them.

use std::path::Path;

use jiff::Timestamp;

use crate::block::BlockMeta;
use crate::cli::exit::{Failure, print};

const HEADER: [&str; 8] = [
    "BLOCK ULID",
    "MIN TIME",
    "MAX TIME",
    "DURATION",
    "NUM SAMPLES",
    "NUM CHUNKS",
    "NUM SERIES",
    "SIZE",
];

/// Narrowest column, then the blanks behind the widest cell.
const MIN_WIDTH: usize = 13;
const PADDING: usize = 2;

/// Prints the blocks of `dir`, aligned among themselves.
pub(super) fn print_blocks(
    dir: &Path,
    metas: &[BlockMeta],
    with_header: bool,
    is_for_people: bool,
) -> Result<(), Failure> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if with_header {
        rows.push(HEADER.map(str::to_owned).to_vec());
    }
    for meta in metas {
        let bytes = block_bytes(&dir.join(meta.ulid.to_string()));
        rows.push(row(meta, bytes, is_for_people));
    }
    for line in aligned(&rows) {
        print(&line)?;
    }
    Ok(())
}

fn row(meta: &BlockMeta, bytes: u64, is_for_people: bool) -> Vec<String> {
    let time = |t: i64| {
        if is_for_people {
            people_time(t)
        } else {
            t.to_string()
        }
    };
    vec![
        meta.ulid.to_string(),
        time(meta.min_time),
        time(meta.max_time),
        go_duration(meta.max_time.saturating_sub(meta.min_time)),
        meta.stats.num_samples.to_string(),
        meta.stats.num_chunks.to_string(),
        meta.stats.num_series.to_string(),
        if is_for_people {
            people_bytes(bytes)
        } else {
            bytes.to_string()
        },
    ]
}

/// Every column but the last as wide as its widest cell wants.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        MIN_WIDTH.max(widest + PADDING)
    };
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < row.len() {
                let n_blanks = width(column).saturating_sub(cell.chars().count());
                line.push_str(&" ".repeat(n_blanks));
            }
        }
        line
    };
    rows.iter().map(line).collect()
}

/// Bytes of chunks, index, tombstones and meta.json.
fn block_bytes(dir: &Path) -> u64 {
    let mut n_bytes = 0;
    for dir in [dir, &dir.join("chunks")] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let file = entry.metadata().ok().filter(std::fs::Metadata::is_file);
            n_bytes += file.map_or(0, |file| file.len());
        }
    }
    n_bytes
}

/// `2023-11-14 22:13:20 +0000 UTC`
fn people_time(t: i64) -> String {
    // Whole seconds, cut towards zero.
    let time = Timestamp::from_second(t / 1000);
    time.map_or_else(
        |_beyond| t.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
    )
}

/// `1MiB512KiB3B`
fn people_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut parts = Vec::new();
    let mut rest = bytes;
    for unit in units {
        if !rest.is_multiple_of(1024) || (unit == "B" && rest == 0) {
            parts.push(format!("{}{unit}", rest % 1024));
        }
        rest /= 1024;
        if rest == 0 {
            break;
        }
    }
    parts.reverse();
    parts.concat()
}

/// As Go prints a duration: `1h59m45.5s`, `250ms`, `0s`.
pub(in crate::cli) fn go_duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (minutes, rest_ms) = (ms / 60_000, ms % 60_000);
    let mut seconds = format!("{}.{:03}", rest_ms / 1000, rest_ms % 1000);
    let n_kept = seconds.trim_end_matches('0').trim_end_matches('.').len();
    // Of a whole number no zero may go.
    if seconds.contains('.') && !rest_ms.is_multiple_of(1000) {
        seconds.truncate(n_kept);
    } else {
        seconds = (rest_ms / 1000).to_string();
    }
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_bytes_and_times_are_go_s() {
        let durations = [0, 7, 1000, 10_500, 7_200_000, 7_199_999, -60_000, 600_010];
        assert_eq!(
            durations.map(go_duration).join(" "),
            "0s 7ms 1s 10.5s 2h0m0s 1h59m59.999s -1m0s 10m0.01s"
        );
        let bytes = [0, 1023, 1024, 1025, (1 << 20) + (512 << 10) + 3];
        assert_eq!(
            bytes.map(people_bytes).join(" "),
            "0B 1023B 1KiB 1KiB1B 1MiB512KiB3B"
        );
        assert_eq!(
            people_time(1_700_000_000_999),
            "2023-11-14 22:13:20 +0000 UTC"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_two() {
        let rows = [vec!["a", "b"], vec!["twelve chars", "c"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(aligned(&rows), ["a             b", "twelve chars  c"]);
    }
}

//! `gauntlet tsdb analyze`

use std::path::PathBuf;

use clap::Args;

use crate::block::{Block, BlockAnalysis, ChunkAnalysis, Counted};
use crate::cli::exit::{Failure, print};
use crate::cli::progress::Progress;
use crate::cli::tsdb::columns::go_duration;
use crate::model::{BlockId, Matcher};
use crate::promql::parse::parse_selector_matchers;

/// Churn, label pair cardinality and compaction efficiency of a block.
#[derive(Debug, Args)]
pub(in crate::cli) struct Analyze {
    /// The data directory.
    #[arg(default_value = "gauntlet-data")]
    directory: PathBuf,
    /// The block; the newest without.
    block: Option<BlockId>,
    /// Lines of each list.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Read every chunk too.
    #[arg(long)]
    extended: bool,
    /// Only series that match.
    #[arg(long = "match", value_name = "SELECTOR")]
    selector: Option<String>,
}

impl Analyze {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let matchers = match &self.selector {
            Some(text) => parse_selector_matchers(text)
                .map_err(|error| Failure::wrong(format!("--match: {error}")))?,
            None => Vec::new(),
        };
        let id = match self.block {
            Some(id) => id,
            None => self.newest()?,
        };
        let block = Block::open(&self.directory.join(id.to_string()));
        let block = block.map_err(|error| Failure::of(&error))?;
        let analysis = block
            .analyze(&matchers)
            .map_err(|error| Failure::of(&error))?;
        self.print_summary(&block, &analysis)?;
        for (title, table) in [
            (
                "Label pairs most involved in churning",
                &analysis.churn_by_pair,
            ),
            (
                "Label names most involved in churning",
                &analysis.churn_by_name,
            ),
            ("Most common label pairs", &analysis.series_by_pair),
            (
                "Label names with highest cumulative label value length",
                &analysis.value_bytes_by_name,
            ),
            ("Highest cardinality labels", &analysis.values_by_name),
            (
                "Highest cardinality metric names",
                &analysis.series_by_metric,
            ),
        ] {
            self.print_table(title, table)?;
        }
        if self.extended {
            print_chunks(&block, &matchers)?;
        }
        Ok(())
    }

    /// The block that was made last.
    fn newest(&self) -> Result<BlockId, Failure> {
        let shown = self.directory.display();
        let entries = std::fs::read_dir(&self.directory)
            .map_err(|error| Failure::failed(format!("list {shown}: {error}")))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| name.to_str()?.parse().ok())
            .max()
            .ok_or_else(|| Failure::failed(format!("there is no block in {shown}")))
    }

    fn print_summary(&self, block: &Block, analysis: &BlockAnalysis) -> Result<(), Failure> {
        let meta = block.meta();
        let length = go_duration(meta.max_time.saturating_sub(meta.min_time));
        print(&format!("Block ID: {}\nDuration: {length}", meta.ulid))?;
        print(&format!("Total Series: {}", meta.stats.num_series))?;
        if let Some(selector) = &self.selector {
            print(&format!("Matcher: {selector}"))?;
        }
        print(&format!("Label names: {}", analysis.n_label_names))?;
        if self.selector.is_some() {
            print(&format!("Matched series: {}", analysis.n_series))?;
        }
        print(&format!(
            "Postings (unique label pairs): {}\nPostings entries (total label pairs): {}",
            analysis.n_pairs, analysis.n_pair_entries
        ))
    }

    fn print_table(&self, title: &str, table: &[Counted]) -> Result<(), Failure> {
        print(&format!("\n{title}:"))?;
        for (key, n) in table.iter().take(self.limit) {
            print(&format!("{n} {key}"))?;
        }
        Ok(())
    }
}

fn print_chunks(block: &Block, matchers: &[Matcher]) -> Result<(), Failure> {
    let mut progress: Option<Progress> = None;
    let analysis = block.analyze_chunks(matchers, &mut |done, total| {
        progress
            .get_or_insert_with(|| Progress::new("series", total as u64))
            .set(done as u64);
    });
    drop(progress);
    let analysis = analysis.map_err(|error| Failure::of(&error))?;
    let ChunkAnalysis {
        n_chunks,
        float_samples,
        float_bytes,
        histogram_samples,
        histogram_bytes,
        histogram_buckets,
    } = analysis;
    print("\nCompaction analysis:\n")?;
    for (what, numbers) in [
        ("samples per float chunk", float_samples),
        ("bytes per float chunk", float_bytes),
        ("samples per histogram chunk", histogram_samples),
        ("bytes per histogram chunk", histogram_bytes),
        ("buckets per histogram chunk", histogram_buckets),
    ] {
        print(&distribution(what, numbers, n_chunks))?;
    }
    Ok(())
}

/// Lines of `#`, one for every hundredth of all chunks.
fn distribution(what: &str, mut numbers: Vec<usize>, n_chunks: usize) -> String {
    numbers.sort_unstable();
    let (Some(&min), Some(&max)) = (numbers.first(), numbers.last()) else {
        return format!("{what}: N/A\n");
    };
    let mut step = 10;
    while step < (max - min) / 10 && step <= 10_000 {
        step *= 10;
    }
    let start = min - min % step;
    let end = max - max % step + step;
    let mut buckets = vec![0usize; (end - start) / step + 1];
    for number in &numbers {
        if let Some(bucket) = buckets.get_mut((number - start) / step) {
            *bucket += 1;
        }
    }
    let average = numbers.iter().sum::<usize>() / numbers.len();
    let n_digits = |n: usize| n.to_string().len();
    let (left, right) = (n_digits(end), n_digits(end + step));
    let widest = n_digits(buckets.iter().copied().max().unwrap_or(0));
    let mut text = format!("{what} (min/avg/max): {min}/{average}/{max}\n");
    for (n, count) in buckets.iter().enumerate() {
        let (from, to) = (n * step + start + 1, (n + 1) * step + start);
        let bar = "#".repeat(100 * count / n_chunks.max(1));
        text.push_str(&format!(
            "[{from:>left$}, {to:>right$}]: {count:>widest$} {bar}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_a_line_a_range_and_a_mark_a_hundredth() {
        assert_eq!(distribution("x", Vec::new(), 4), "x: N/A\n");
        assert_eq!(
            distribution("x", vec![120, 7, 120, 115], 40),
            "x (min/avg/max): 7/90/120\n[  1, 100]: 1 ##\n[101, 200]: 3 #######\n[201, 300]: 0 \n"
        );
    }
}

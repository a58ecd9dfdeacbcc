//! `gauntlet bucket inspect`

use std::time::Duration;

use clap::Args;

use crate::block::BlockMeta;
use crate::cli::bucket::chosen::{duration, inventory_within};
use crate::cli::bucket::open::BucketOptions;
use crate::cli::bucket::table::{Cell, Layout, print_rows, sort};
use crate::cli::bucket::text::{go_time, grouped, label};
use crate::cli::exit::Failure;
use crate::cli::tsdb::columns::go_duration;
use crate::model::Resolution;

const COLUMNS: [&str; 13] = [
    "ULID",
    "FROM",
    "UNTIL",
    "RANGE",
    "UNTIL-DOWN",
    "#SERIES",
    "#SAMPLES",
    "#CHUNKS",
    "COMP-LEVEL",
    "COMP-FAILED",
    "LABELS",
    "RESOLUTION",
    "SOURCE",
];

/// A raw block as long as this is downsampled to five minutes, one of five minutes as long as the second to an hour.
const RAW_MS: i64 = 40 * 3_600_000;
const FIVE_MINUTES_MS: i64 = 10 * 24 * 3_600_000;

/// Print what is known of every block as a table.
#[derive(Debug, Args)]
pub(in crate::cli) struct Inspect {
    #[command(flatten)]
    bucket: BucketOptions,
    /// Only blocks with this external label: name="value"; may be repeated, all must match.
    #[arg(short = 'l', long = "selector", value_name = "LABEL", value_parser = label)]
    selectors: Vec<(String, String)>,
    /// Columns to sort by, the first one first.
    #[arg(long, value_name = "COLUMN", default_values = ["FROM", "UNTIL"], value_parser = COLUMNS)]
    sort_by: Vec<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Layout,
    /// Longest time that reading all metas may take.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let open = self.bucket.open()?;
        let inventory = inventory_within(&open, self.timeout)?;
        let metas = inventory.blocks.iter().map(|known| &known.meta);
        let mut rows: Vec<_> = metas.filter(|meta| self.is_wanted(meta)).map(row).collect();
        let columns: Vec<_> = self
            .sort_by
            .iter()
            .filter_map(|name| COLUMNS.iter().position(|column| column == name))
            .collect();
        sort(&mut rows, &columns);
        print_rows(&COLUMNS, &rows, self.output)
    }

    fn is_wanted(&self, meta: &BlockMeta) -> bool {
        self.selectors.iter().all(|(name, value)| {
            let thanos = meta.thanos.as_ref();
            thanos.and_then(|thanos| thanos.labels.get(name)) == Some(value)
        })
    }
}

fn row(meta: &BlockMeta) -> Vec<Cell> {
    let thanos = meta.thanos.clone().unwrap_or_default();
    let labels: Vec<_> = thanos
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let range_ms = meta.max_time.saturating_sub(meta.min_time);
    let span = |ms| Cell::duration(go_duration(ms), ms);
    let number = |n| Cell::number(grouped(n), n);
    let until_down = match meta.resolution() {
        Some(Resolution::Raw) => span(RAW_MS.saturating_sub(range_ms)),
        Some(Resolution::FiveMinutes) => span(FIVE_MINUTES_MS.saturating_sub(range_ms)),
        Some(Resolution::OneHour) | None => Cell::text("-"),
    };
    vec![
        Cell::text(meta.ulid.to_string()),
        Cell::time(go_time(meta.min_time), meta.min_time / 1_000),
        Cell::time(go_time(meta.max_time), meta.max_time / 1_000),
        span(range_ms),
        until_down,
        number(meta.stats.num_series),
        number(meta.stats.num_samples),
        number(meta.stats.num_chunks),
        number(u64::from(meta.compaction.level)),
        Cell::text(meta.compaction.failed.to_string()),
        Cell::text(labels.join(",")),
        span(thanos.downsample.resolution),
        Cell::text(thanos.source),
    ]
}

//! What scraping counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// One count that only goes up.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(super) fn increment(&self) {
        self.add(1);
    }

    /// `n` more.
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($field:ident $name:literal $help:literal)*) => {
        /// Counts over all pools, under the names Prometheus gives them.
        #[derive(Debug, Default)]
        pub struct ScrapeCounters {
            $(#[doc = $help] pub $field: Count,)*
        }

        impl ScrapeCounters {
            /// Name, help and value of each, in name order.
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$(($name, $help, self.$field.get()),)*]
            }
        }
    };
}

counters! {
    scrapes "gauntlet_scrape_scrapes_total" "Scrapes that were finished, failed ones included."
    failed_scrapes "gauntlet_scrape_failed_scrapes_total" "Scrapes that failed."
    samples "gauntlet_scrape_samples_total" "Samples that were handed to the database."
    stale_markers "gauntlet_scrape_stale_markers_total" "Stale markers that were handed to the database."
    pool_targets_exceeded "prometheus_target_scrape_pool_exceeded_target_limit_total"
        "Total number of times scrape pools hit the target limit, during sync or config reload."
    pool_reloads "prometheus_target_scrape_pool_reloads_total" "Total number of scrape pool reloads."
    pool_syncs "prometheus_target_scrape_pool_sync_total"
        "Total number of syncs that were executed on a scrape pool."
    label_limits_exceeded "prometheus_target_scrape_pool_exceeded_label_limits_total"
        "Total number of times scrape pools hit the label limits, during sync or config reload."
    cache_flushes "prometheus_target_scrapes_cache_flush_forced_total"
        "How many times a scrape cache was flushed due to getting big while scrapes are failing."
    body_size_exceeded "prometheus_target_scrapes_exceeded_body_size_limit_total"
        "Total number of scrapes that hit the body size limit"
    bucket_limit_exceeded "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total"
        "Total number of scrapes that hit the native histogram bucket limit and were rejected."
    sample_limit_exceeded "prometheus_target_scrapes_exceeded_sample_limit_total"
        "Total number of scrapes that hit the sample limit and were rejected."
    exemplars_out_of_order "prometheus_target_scrapes_exemplar_out_of_order_total"
        "Total number of exemplar rejected due to not being out of the expected order."
    duplicates "prometheus_target_scrapes_sample_duplicate_timestamp_total"
        "Total number of samples rejected due to duplicate timestamps but different values."
    out_of_bounds "prometheus_target_scrapes_sample_out_of_bounds_total"
        "Total number of samples rejected due to timestamp falling outside of the time bounds."
    out_of_order "prometheus_target_scrapes_sample_out_of_order_total"
        "Total number of samples rejected due to not being out of the expected order."
}

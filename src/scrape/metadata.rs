//! What a target says about its metrics.

use std::collections::BTreeMap;

use crate::exposition::Entry;
use crate::model::Metadata;

/// Scrapes for which a family that is gone is still described.
const KEPT_SCRAPES: u64 = 10;

/// `# TYPE`, `# HELP` and `# UNIT` of one target by metric family.
#[derive(Debug, Default)]
pub(super) struct MetadataStore {
    families: BTreeMap<String, Described>,
}

#[derive(Debug, Default)]
struct Described {
    metadata: Metadata,
    /// The scrape that described it last.
    seen: u64,
}

impl MetadataStore {
    /// Takes what `entry` says in scrape number `scrape`; samples say nothing.
    pub(super) fn note(&mut self, entry: &Entry<'_>, scrape: u64) {
        match entry {
            Entry::Type { name, metric_type } => {
                self.family(name, scrape).metric_type = *metric_type;
            }
            Entry::Help { name, help } => {
                let metadata = self.family(name, scrape);
                if metadata.help != **help {
                    metadata.help = help.clone().into_owned();
                }
            }
            Entry::Unit { name, unit } => {
                let metadata = self.family(name, scrape);
                if metadata.unit != **unit {
                    (*unit).clone_into(&mut metadata.unit);
                }
            }
            Entry::Comment | Entry::Series(_) | Entry::Histogram(_) => (),
        }
    }

    /// Forgets families that were not described for a while.
    pub(super) fn expire(&mut self, scrape: u64) {
        self.families
            .retain(|_, described| scrape <= described.seen + KEPT_SCRAPES);
    }

    /// All families in name order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.families
            .iter()
            .map(|(name, described)| (name.as_str(), &described.metadata))
    }

    fn family(&mut self, name: &str, scrape: u64) -> &mut Metadata {
        if !self.families.contains_key(name) {
            self.families.insert(name.to_owned(), Described::default());
        }
        let described = self.families.entry(name.to_owned()).or_default();
        described.seen = scrape;
        &mut described.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MetricType;

    #[test]
    fn a_family_is_described_until_ten_scrapes_after_its_end() {
        let mut store = MetadataStore::default();
        let described = Entry::Type {
            name: "a",
            metric_type: MetricType::Counter,
        };
        store.note(&described, 1);
        store.note(
            &Entry::Help {
                name: "a",
                help: "text".into(),
            },
            1,
        );
        store.note(
            &Entry::Unit {
                name: "a",
                unit: "seconds",
            },
            1,
        );
        let expect = Metadata {
            metric_type: MetricType::Counter,
            help: "text".to_owned(),
            unit: "seconds".to_owned(),
        };
        store.expire(11);
        assert_eq!(store.iter().collect::<Vec<_>>(), [("a", &expect)]);
        store.expire(12);
        assert_eq!(store.iter().count(), 0);
    }
}

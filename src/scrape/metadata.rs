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
            Entry::Type { name, metric_type } => self.describe(name, scrape, |metadata| {
                metadata.metric_type = *metric_type;
            }),
            Entry::Help { name, help } => self.describe(name, scrape, |metadata| {
                if metadata.help != **help {
                    metadata.help = help.clone().into_owned();
                }
            }),
            Entry::Unit { name, unit } => self.describe(name, scrape, |metadata| {
                if metadata.unit != **unit {
                    (*unit).clone_into(&mut metadata.unit);
                }
            }),
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

    /// Nearly every family is known, and then its name is not copied.
    fn describe(&mut self, name: &str, scrape: u64, change: impl FnOnce(&mut Metadata)) {
        if let Some(described) = self.families.get_mut(name) {
            described.seen = scrape;
            change(&mut described.metadata);
            return;
        }
        let mut described = Described {
            metadata: Metadata::default(),
            seen: scrape,
        };
        change(&mut described.metadata);
        self.families.insert(name.to_owned(), described);
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

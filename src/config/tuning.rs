//! What both files may say of the head, and a reload changes.

use crate::head::{Head, HeadSettings};

/// `None` leaves it to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadTuning {
    /// How much older than the newest sample a sample may be.
    pub out_of_order_window_ms: Option<i64>,
    /// How many exemplars are kept.
    pub exemplars_max: Option<usize>,
}

impl HeadTuning {
    /// What is said here, and elsewhere where nothing is.
    pub fn or(self, elsewhere: Self) -> Self {
        let window_ms = self.out_of_order_window_ms;
        let exemplars_max = self.exemplars_max;
        Self {
            out_of_order_window_ms: window_ms.or(elsewhere.out_of_order_window_ms),
            exemplars_max: exemplars_max.or(elsewhere.exemplars_max),
        }
    }

    /// Of what both speak, and differently.
    pub fn contradictions(self, other: Self) -> Vec<&'static str> {
        fn differ<T: PartialEq>(left: Option<T>, right: Option<T>) -> bool {
            matches!((left, right), (Some(left), Some(right)) if left != right)
        }
        let window = differ(self.out_of_order_window_ms, other.out_of_order_window_ms);
        let exemplars = differ(self.exemplars_max, other.exemplars_max);
        let names = [
            (window, "storage.tsdb.out_of_order_time_window"),
            (exemplars, "storage.exemplars.max_exemplars"),
        ];
        let differing = names.into_iter().filter(|(differs, _)| *differs);
        differing.map(|(_, name)| name).collect()
    }

    /// The same settings with this in them; what nobody said is Prometheus' default.
    pub fn in_settings(self, head: HeadSettings) -> HeadSettings {
        let default = HeadSettings::default();
        HeadSettings {
            out_of_order_window_ms: self
                .out_of_order_window_ms
                .unwrap_or(default.out_of_order_window_ms),
            exemplars_max: self.exemplars_max.unwrap_or(default.exemplars_max),
            ..head
        }
    }

    /// Changes a head that runs; the next transactions follow it.
    pub fn apply(self, head: &Head) {
        let settings = self.in_settings(HeadSettings::default());
        head.set_out_of_order_window(settings.out_of_order_window_ms);
        head.set_exemplars_max(settings.exemplars_max);
    }
}

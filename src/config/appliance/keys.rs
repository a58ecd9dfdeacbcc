//! Takes values out of the merged layers, each once, and notes what is wrong with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};

use crate::config::appliance::complaint::Complaint;
use crate::model::Resolution;
use crate::model::duration::parse_duration_ms;
use crate::storage::ResolutionWish;

/// Units of sizes, as Prometheus writes them: powers of 1024.
const SIZE_UNITS: [(&str, u64); 6] = [
    ("PB", 1 << 50),
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
    ("B", 1),
];

/// The merged values. What is asked for and not usable becomes a complaint, and a harmless value stands in, so that
/// one pass finds everything; nobody sees the stand-ins, because complaints refuse the whole.
pub(super) struct Keys {
    values: BTreeMap<String, Value>,
    pub(super) complaints: Vec<Complaint>,
}

impl Keys {
    pub(super) fn new(values: BTreeMap<String, Value>, complaints: Vec<Complaint>) -> Self {
        Self { values, complaints }
    }

    /// Notes what is wrong with the value of `key`.
    pub(super) fn complain(&mut self, key: &str, problem: &str) {
        let value = self.values.get(key);
        let origin = value.and_then(Value::origin).unwrap_or("configuration");
        self.complaints.push(Complaint {
            origin: origin.to_owned(),
            key: key.to_owned(),
            value: value.map(shown),
            problem: problem.to_owned(),
        });
    }

    /// Refuses every key that is neither known nor in a section whose keys are free.
    pub(super) fn refuse_unknown(&mut self, known: &[String], is_free: impl Fn(&str) -> bool) {
        let unknown: Vec<String> = self
            .values
            .keys()
            .filter(|key| !known.contains(key) && !is_free(key))
            .cloned()
            .collect();
        for key in unknown {
            let problem = match nearest(&key, known) {
                Some(near) => format!("there is no such key; is {near} meant?"),
                None => "there is no such key; appliance.toml names all there are".to_owned(),
            };
            self.complain(&key, &problem);
        }
    }

    /// All values below `section`, by the rest of their keys.
    pub(super) fn section(&self, section: &str) -> Vec<(String, String)> {
        let below = |key: &str| {
            let rest = key.strip_prefix(section)?.strip_prefix('.')?;
            Some(rest.to_owned())
        };
        self.values
            .iter()
            .filter_map(|(key, value)| Some((below(key)?, shown(value))))
            .collect()
    }

    /// Every key with its value.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        self.values
            .iter()
            .map(|(key, value)| (key.clone(), shown(value)))
            .collect()
    }

    pub(super) fn text(&mut self, key: &str) -> String {
        match self.values.get(key) {
            Some(value) => shown(value),
            None => {
                self.complain(key, "it is not set");
                String::new()
            }
        }
    }

    /// An empty text is no path.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    pub(super) fn flag(&mut self, key: &str) -> bool {
        let text = self.text(key);
        self.parsed(key, text.parse().ok(), "expected true or false")
    }

    /// A number of at least zero.
    pub(super) fn price(&mut self, key: &str) -> f64 {
        let text = self.text(key);
        let price = text.parse().ok();
        let price = price.filter(|price: &f64| price.is_finite() && 0.0 <= *price);
        self.parsed(key, price, "expected a number of at least 0")
    }

    /// A whole number of at least one.
    pub(super) fn count(&mut self, key: &str) -> usize {
        let text = self.text(key);
        let count = text.parse().ok().filter(|count| 0 < *count);
        self.parsed(key, count, "expected a whole number of at least 1")
    }

    /// A whole number; zero means none.
    pub(super) fn count_or_none(&mut self, key: &str) -> Option<NonZeroU64> {
        let text = self.text(key);
        let problem = "expected a whole number; 0 for none";
        NonZeroU64::new(self.parsed(key, text.parse().ok(), problem))
    }

    /// A whole number; an empty text is none given.
    pub(super) fn count_if_given(&mut self, key: &str) -> Option<u64> {
        let text = self.text(key);
        let problem = "expected a whole number, or nothing";
        (!text.is_empty()).then(|| self.parsed(key, text.parse().ok(), problem))
    }

    /// Zero is a duration too; an empty text is none given.
    pub(super) fn duration_if_given(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key);
        let problem = "expected a duration such as 30m or 2h, 0, or nothing";
        (!text.is_empty()).then(|| self.parsed(key, duration(&text), problem))
    }

    /// Longer than nothing.
    pub(super) fn duration(&mut self, key: &str) -> Duration {
        let text = self.text(key);
        let duration = duration(&text).filter(|duration| !duration.is_zero());
        self.parsed(
            key,
            duration,
            "expected a duration longer than 0, such as 15s, 2h or 1h30m",
        )
    }

    /// `auto`, or the coarsest resolution that is no longer than a duration.
    pub(super) fn resolution(&mut self, key: &str) -> ResolutionWish {
        let text = self.text(key);
        if text == "auto" {
            return ResolutionWish::Auto;
        }
        let ms = parse_duration_ms(&text).ok();
        let problem = "expected auto or a duration such as 0s, 5m or 1h";
        let ms: Option<i64> = self.parsed(key, ms.map(Some), problem);
        ResolutionWish::Prefer(Resolution::at_most(ms.unwrap_or(0)))
    }

    /// Zero means none.
    pub(super) fn duration_or_none(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key);
        let problem = "expected a duration such as 15s, 2h or 15d; 0 for none";
        let duration: Duration = self.parsed(key, duration(&text), problem);
        (!duration.is_zero()).then_some(duration)
    }

    /// More than nothing.
    pub(super) fn size(&mut self, key: &str) -> u64 {
        let text = self.text(key);
        let size = parse_size(&text).filter(|size| 0 < *size);
        self.parsed(key, size, "expected a size such as 512MB or 1.5GB")
    }

    /// Zero means none.
    pub(super) fn size_or_none(&mut self, key: &str) -> Option<NonZeroU64> {
        let text = self.text(key);
        let problem = "expected a size such as 512MB or 1.5GB; 0 for none";
        NonZeroU64::new(self.parsed(key, parse_size(&text), problem))
    }

    /// A share such as `80%`; `0` for none.
    pub(super) fn percent_or_none(&mut self, key: &str) -> Option<u8> {
        let text = self.text(key);
        let number = text.strip_suffix('%').unwrap_or(&text);
        let share = number.parse().ok().filter(|share: &u8| *share <= 100);
        let is_unit_missing = text != "0" && !text.ends_with('%');
        let problem = "expected a percentage such as 80%, 100% at most; 0 for none";
        let share = self.parsed(key, share.filter(|_| !is_unit_missing), problem);
        (0 < share).then_some(share)
    }

    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        let text = self.text(key);
        let problem = "expected an IP address and a port, such as 127.0.0.1:10902 or [::1]:0";
        let stand_in = || SocketAddr::from(([127, 0, 0, 1], 0));
        match text.parse() {
            Ok(address) => address,
            Err(_malformed) => {
                self.complain(key, problem);
                stand_in()
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key);
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.complain(key, &format!("expected one of {}", names.join(", ")));
        }
        found.map(|(_, choice)| *choice)
    }

    fn parsed<T: Default>(&mut self, key: &str, parsed: Option<T>, problem: &str) -> T {
        parsed.unwrap_or_else(|| {
            self.complain(key, problem);
            T::default()
        })
    }
}

/// A duration as Prometheus writes it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let ms = parse_duration_ms(text).ok()?;
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// Bytes of `512MB`, `1.5GB` or `0`.
fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = SIZE_UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || 6 < fraction.len() {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit)? / scale;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)?
        .checked_add(part)
}

fn shown(value: &Value) -> String {
    if let ValueKind::String(text) = &value.kind {
        return text.clone();
    }
    value.to_string()
}

/// The key that differs least, if it differs by little.
fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (distance(key, known), known.as_str()))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, known)| known)
}

/// How many characters must be changed, added or taken to turn one into the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (position, of_left) in left.chars().enumerate() {
        let mut diagonal = position;
        let mut before = position + 1;
        let mut next = vec![before];
        for (of_right, above) in right.iter().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(of_left != *of_right);
            before = changed.min(before + 1).min(above + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("512MB"), Some(512 << 20));
        assert_eq!(parse_size("1.5KB"), Some(1536));
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("7B"), Some(7));
        for wrong in ["", "12", "MB", "-1MB", "1.MB", "1e3MB", "99999999PB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("http.adress", "http.address"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}

//! Series as every known sender of version 1 writes them: labels first, then floats, then nothing. They are taken apart
//! without looking into a label.

use crate::foundation::proto::Slice;
use crate::model::{SampleTime, TimestampMs};

/// Tags of the fields 1 and 2 of a series, both delimited, and of a sample: a double and an integer.
const LABEL: u8 = 0x0a;
const SAMPLE: u8 = 0x12;
const VALUE: u8 = 0x09;
const TIME: u8 = 0x10;

/// One series, cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UsualSeries<'a> {
    /// All label fields.
    pub(super) labels: &'a [u8],
    samples: &'a [u8],
}

impl<'a> UsualSeries<'a> {
    /// `None` when it is written in any other way, which then is read field by field.
    pub(super) fn of(message: Slice<'a>) -> Option<Self> {
        let mut rest = message.bytes;
        while let [LABEL, content @ ..] = rest {
            rest = skip(content)?;
        }
        let (labels, samples) = message
            .bytes
            .split_at_checked(message.bytes.len() - rest.len())?;
        while let [SAMPLE, content @ ..] = rest {
            let [len @ 0..0x80, content @ ..] = content else {
                return None;
            };
            let (sample, after) = content.split_at_checked(usize::from(*len))?;
            read_sample(sample)?;
            rest = after;
        }
        (rest.is_empty() && !labels.is_empty()).then_some(Self { labels, samples })
    }

    /// The samples, in the order sent.
    pub(super) fn samples(self) -> impl Iterator<Item = (SampleTime, f64)> {
        let mut rest = self.samples;
        std::iter::from_fn(move || {
            let [SAMPLE, len, content @ ..] = rest else {
                return None;
            };
            let (sample, after) = content.split_at_checked(usize::from(*len))?;
            rest = after;
            let (t, v) = read_sample(sample)?;
            Some((SampleTime::from(t), v))
        })
    }
}

/// What is behind a content with a length of at most two bytes.
fn skip(content: &[u8]) -> Option<&[u8]> {
    match content {
        [len @ 0..0x80, rest @ ..] => rest.get(usize::from(*len)..),
        [low, high @ 0..0x80, rest @ ..] => {
            let len = usize::from(low & 0x7f) | usize::from(*high) << 7;
            rest.get(len..)
        }
        _ => None,
    }
}

/// A value, then a time, and nothing else. A value of zero may be left out.
#[inline]
fn read_sample(message: &[u8]) -> Option<(TimestampMs, f64)> {
    let (value, rest) = match message {
        [VALUE, rest @ ..] => rest.split_first_chunk::<8>()?,
        _ => (&[0; 8], message),
    };
    let [TIME, rest @ ..] = rest else {
        return None;
    };
    if rest.is_empty() || 10 < rest.len() {
        return None;
    }
    let mut t = 0u64;
    for (position, byte) in rest.iter().enumerate() {
        let is_last = position + 1 == rest.len();
        if is_last != (*byte < 0x80) || (position == 9 && 1 < *byte) {
            return None;
        }
        t |= u64::from(byte & 0x7f) << (7 * position);
    }
    Some((t.cast_signed(), f64::from_le_bytes(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::proto::{Fields, Value};
    use crate::remote::message;

    fn usual(bytes: &[u8]) -> Option<(usize, Vec<(i64, u64)>)> {
        let found = UsualSeries::of(Slice { bytes, offset: 0 })?;
        let samples = found.samples().map(|(at, v)| (at.t, v.to_bits()));
        Some((found.labels.len(), samples.collect()))
    }

    /// The same by reading every field.
    fn read(bytes: &[u8]) -> Vec<(i64, u64)> {
        let mut fields = Fields::new(Slice { bytes, offset: 0 }, "TimeSeries");
        let mut samples = Vec::new();
        while let Some((number, value)) = fields.next_field().unwrap() {
            if let (2, Value::Bytes(sample)) = (number, value) {
                let (at, v) = message::read_sample(sample).unwrap();
                samples.push((at.t, v.to_bits()));
            }
        }
        samples
    }

    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let mut len = content.len();
        while 0x7f < len {
            out.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        out.push(u8::try_from(len).unwrap());
        out.extend_from_slice(content);
        out
    }

    fn sample(t: u64, v: f64) -> Vec<u8> {
        let mut content = vec![VALUE];
        content.extend_from_slice(&v.to_le_bytes());
        content.push(TIME);
        let mut rest = t;
        while 0x7f < rest {
            content.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        content.push(u8::try_from(rest).unwrap());
        field(SAMPLE, &content)
    }

    #[test]
    fn labels_then_samples_are_taken_apart_as_by_reading_every_field() {
        let labels = [field(LABEL, &[7; 20]), field(LABEL, &[8; 300])].concat();
        for times in [
            &[][..],
            &[1_700_000_000_123],
            &[0, 1, 127, 128, (1 << 62) + 5, u64::MAX, 1 << 63],
        ] {
            let mut bytes = labels.clone();
            for (n, t) in (0u32..).zip(times) {
                bytes.extend(sample(*t, f64::from(n) - 0.5));
            }
            let (n_bytes, samples) = usual(&bytes).unwrap();
            assert_eq!(n_bytes, labels.len());
            assert_eq!(samples.len(), times.len());
            assert_eq!(samples, read(&bytes));
        }
        let zero = [labels, field(SAMPLE, &[TIME, 9])].concat();
        assert_eq!(usual(&zero).unwrap().1, [(9, 0)]);
        assert_eq!(read(&zero), [(9, 0)]);
    }

    #[test]
    fn everything_else_is_left_to_the_reader_of_fields() {
        let label = field(LABEL, b"text");
        let one = sample(5, 1.0);
        let exemplar = field(0x1a, b"");
        let swapped = field(SAMPLE, &[&[TIME, 5, VALUE][..], &[0; 8]].concat());
        let no_time = field(SAMPLE, &[&[VALUE][..], &[0; 8]].concat());
        let mut too_wide = sample(u64::MAX, 1.0);
        *too_wide.last_mut().unwrap() = 2;
        let no_content = field(SAMPLE, &[]);
        let mut long_time = sample(5, 1.0);
        *long_time.last_mut().unwrap() |= 0x80;
        for parts in [
            vec![&one],
            vec![&label, &one, &label],
            vec![&label, &exemplar],
            vec![&label, &one, &exemplar],
            vec![&label, &swapped],
            vec![&label, &no_time],
            vec![&label, &no_content],
            vec![&label, &too_wide],
            vec![&label, &long_time],
        ] {
            let bytes: Vec<u8> = parts.into_iter().flatten().copied().collect();
            assert_eq!(usual(&bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn no_truncation_is_taken_for_a_whole() {
        let bytes = [field(LABEL, &[7; 200]), sample(300, 1.0), sample(301, 2.0)].concat();
        let whole: Vec<usize> = (0..bytes.len())
            .filter(|len| usual(&bytes[..*len]).is_some())
            .collect();
        let of_label = field(LABEL, &[7; 200]).len();
        assert_eq!(whole, [of_label, of_label + sample(300, 1.0).len()]);
    }
}

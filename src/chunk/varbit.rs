//! Integers in prefix-coded widths, as native histograms and start timestamps use them.

use crate::chunk::bits::{BitReader, BitWriter, OutOfBits};

/// Payload width after so many ones; the last class has no closing zero.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
const LAST: u32 = 8;

/// Does `value` fit the shifted range of `n` bits, −(2^(n−1)−1) to 2^(n−1)?
#[inline]
pub(super) fn fits_shifted(value: i64, n: u32) -> bool {
    let top = 1i64 << (n - 1);
    -(top - 1) <= value && value <= top
}

/// Two's complement of `n` bits whose smallest value stands for its negation.
#[inline(always)]
pub(super) fn sign_extend_shifted(raw: u64, n: u32) -> i64 {
    let top = (1u64 << n) >> 1;
    let borrow = if raw > top { 1u64 << n } else { 0 };
    raw.wrapping_sub(borrow).cast_signed()
}

/// Appends a signed integer.
pub fn put_varbit_int(out: &mut BitWriter, value: i64) {
    let class = (1..LAST)
        .zip(WIDTHS.iter().skip(1))
        .find(|&(_, &width)| fits_shifted(value, width))
        .map_or(LAST, |(class, _)| class);
    put_class(
        out,
        if value == 0 { 0 } else { class },
        value.cast_unsigned(),
    );
}

/// Appends an unsigned integer.
pub fn put_varbit_uint(out: &mut BitWriter, value: u64) {
    let class = (0..LAST)
        .zip(WIDTHS)
        .find(|&(_, width)| value >> width == 0)
        .map_or(LAST, |(class, _)| class);
    put_class(out, class, value);
}

fn put_class(out: &mut BitWriter, class: u32, payload: u64) {
    if class == LAST {
        out.put(0xff, 8);
    } else {
        out.put((1 << (class + 1)) - 2, class + 1);
    }
    let width = WIDTHS.get(class as usize).copied().unwrap_or(64);
    if 0 < width {
        out.put(payload, width);
    }
}

/// Reads what [`put_varbit_int`] wrote.
pub fn varbit_int(bits: &mut BitReader<'_>) -> Result<i64, OutOfBits> {
    let (raw, width) = take_class(bits)?;
    Ok(match width {
        0 => 0,
        64 => raw.cast_signed(),
        _ => sign_extend_shifted(raw, width),
    })
}

/// Reads what [`put_varbit_uint`] wrote.
pub fn varbit_uint(bits: &mut BitReader<'_>) -> Result<u64, OutOfBits> {
    Ok(take_class(bits)?.0)
}

fn take_class(bits: &mut BitReader<'_>) -> Result<(u64, u32), OutOfBits> {
    let class = bits.ones(LAST)?;
    let width = WIDTHS.get(class as usize).copied().unwrap_or(64);
    Ok((bits.bits(width)?, width))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_int(value: i64, n_bits: usize) {
        let mut writer = BitWriter::default();
        put_varbit_int(&mut writer, value);
        let mut reader = BitReader::new(writer.bytes());
        let n_before = reader.remaining();
        assert_eq!(varbit_int(&mut reader), Ok(value));
        assert_eq!(n_before - reader.remaining(), n_bits, "{value}");
    }

    #[test]
    fn signed_classes_end_where_the_format_says() {
        for (value, n_bits) in [
            (0, 1),
            (4, 5),
            (-3, 5),
            (5, 9),
            (-4, 9),
            (32, 9),
            (-31, 9),
            (33, 13),
            (256, 13),
            (257, 17),
            (2048, 17),
            (2049, 24),
            (131_072, 24),
            (131_073, 32),
            (16_777_216, 32),
            (16_777_217, 64),
            (1 << 55, 64),
            ((1 << 55) + 1, 72),
            (i64::MIN, 72),
            (i64::MAX, 72),
        ] {
            check_int(value, n_bits);
        }
    }

    proptest! {
        #[test]
        fn integers_come_back(values in prop::collection::vec((any::<i64>(), 0u32..64), 0..50)) {
            let mut writer = BitWriter::default();
            for &(value, shift) in &values {
                put_varbit_int(&mut writer, value >> shift);
                put_varbit_uint(&mut writer, value.cast_unsigned() >> shift);
            }
            let mut reader = BitReader::new(writer.bytes());
            for &(value, shift) in &values {
                prop_assert_eq!(varbit_int(&mut reader), Ok(value >> shift));
                prop_assert_eq!(varbit_uint(&mut reader), Ok(value.cast_unsigned() >> shift));
            }
        }
    }
}

//! Bit streams, most significant bit first.

/// The stream ended before the bits that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBits;

/// Reads bits through a 64-bit window.
///
/// `buffer` holds the next bits at its top; the first `n_bits` of them are counted. Bits below those are either zero
/// or the true bits that follow, so loading them again changes nothing.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    rest: &'a [u8],
    buffer: u64,
    n_bits: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            buffer: 0,
            n_bits: 0,
        }
    }

    /// Bits not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len() * 8 + self.n_bits as usize
    }

    /// Fills the window: afterwards it holds at least 56 bits, or all that are left.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if let Some(word) = self.rest.first_chunk::<8>() {
            // Whole bytes that fit above the counted bits; the rest of the word is loaded again next time.
            self.buffer |= u64::from_be_bytes(*word) >> self.n_bits;
            let n_bytes = (63 ^ self.n_bits) >> 3;
            self.rest = self.rest.get(n_bytes as usize..).unwrap_or_default();
            self.n_bits |= 56;
        } else {
            self.refill_tail();
        }
    }

    #[cold]
    fn refill_tail(&mut self) {
        while self.n_bits <= 56
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.buffer |= u64::from(*byte) << (56 - self.n_bits);
            self.n_bits += 8;
            self.rest = rest;
        }
    }

    /// The window; what lies beyond the counted bits is not to be believed before [`Self::skip`] accepted it.
    #[inline(always)]
    pub(super) fn window(&self) -> u64 {
        self.buffer
    }

    /// Moves past `n` bits of the window, at most 63.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) -> Result<(), OutOfBits> {
        if self.n_bits < n {
            return Err(OutOfBits);
        }
        self.buffer <<= n;
        self.n_bits = self.n_bits.wrapping_sub(n);
        Ok(())
    }

    /// Takes `n` bits, at most 64, as the low bits of the result.
    #[inline(always)]
    pub fn bits(&mut self, n: u32) -> Result<u64, OutOfBits> {
        if self.n_bits < n {
            self.refill();
        }
        if n <= 56 {
            // Two shifts, because zero bits would shift by 64.
            let value = (self.buffer >> 1) >> (63 - n);
            self.skip(n)?;
            return Ok(value);
        }
        let high = self.buffer >> 32;
        self.skip(32)?;
        self.refill();
        let n_low = n - 32;
        let low = self.buffer >> (64 - n_low);
        self.skip(n_low)?;
        Ok(high << n_low | low)
    }

    /// Counts ones up to the first zero, which is taken too, or up to `max` ones.
    #[inline]
    pub fn ones(&mut self, max: u32) -> Result<u32, OutOfBits> {
        if self.n_bits <= max {
            self.refill();
        }
        let n = self.buffer.leading_ones().min(max);
        self.skip(if n == max { n } else { n + 1 })?;
        Ok(n)
    }

    /// Is the next bit a one?
    #[inline]
    pub fn bit(&mut self) -> Result<bool, OutOfBits> {
        Ok(self.bits(1)? == 1)
    }
}

/// Appends bits to bytes, and leaves exactly the bytes that Prometheus leaves: behind a field of whole bytes that ends
/// on a byte boundary stands one more byte, which the next field fills.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Low bits of the last byte that are not used yet, 0 to 8.
    n_free: u32,
}

impl BitWriter {
    /// Continues behind whole bytes.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, n_free: 0 }
    }

    /// Continues behind the first `n_bits` of `bytes`, of which the last field has `n_last`; what follows them is cut off.
    pub(super) fn behind(mut bytes: Vec<u8>, n_bits: usize, n_last: u32) -> Self {
        let n_used = (n_bits % 8).to_le_bytes()[0];
        bytes.truncate(n_bits.div_ceil(8));
        let mut n_free = 0;
        if n_used != 0 {
            n_free = 8 - u32::from(n_used);
            if let Some(last) = bytes.last_mut() {
                *last &= 0xff << n_free;
            }
        } else if n_last.is_multiple_of(8) {
            bytes.push(0);
            n_free = 8;
        }
        Self { bytes, n_free }
    }

    /// Appends the low `n` bits of `value`, 1 to 64.
    #[inline]
    pub fn put(&mut self, value: u64, n: u32) {
        debug_assert!(0 < n && n <= 64, "{n} bits");
        let mut left = value << (64 - n);
        let mut n_left = n;
        if 0 < self.n_free
            && let Some(last) = self.bytes.last_mut()
        {
            let [top, ..] = (left >> (8 - self.n_free)).to_be_bytes();
            *last |= top;
            if n_left < self.n_free {
                self.n_free -= n_left;
                return;
            }
            left = left.checked_shl(self.n_free).unwrap_or(0);
            n_left -= self.n_free;
        }
        let n_bytes = n_left.div_ceil(8);
        let bytes = left.to_be_bytes();
        self.bytes
            .extend_from_slice(bytes.get(..n_bytes as usize).unwrap_or(&bytes));
        self.n_free = n_bytes * 8 - n_left;
        if self.n_free == 0 && n.is_multiple_of(8) {
            self.bytes.push(0);
            self.n_free = 8;
        }
    }

    /// Makes room for `n_bytes` more, and for a quarter of what is there, but no more than that.
    pub fn make_room(&mut self, n_bytes: usize) {
        let len = self.bytes.len();
        if self.bytes.capacity() < len + n_bytes {
            // Allocators hand out no less than multiples of 16 anyway.
            let wanted = (len + len / 4 + n_bytes).next_multiple_of(16);
            self.bytes.reserve_exact(wanted - len);
        }
    }

    /// Makes room for `n_bytes` in all.
    pub fn reserve(&mut self, n_bytes: usize) {
        let n_more = n_bytes.saturating_sub(self.bytes.len());
        self.bytes.reserve_exact(n_more);
    }

    /// What was written; unused bits of the last byte are zero.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, without the byte that a field of whole bytes leaves for the next one.
    pub fn used_bytes(&self) -> &[u8] {
        match self.bytes.split_last() {
            Some((_, used)) if self.n_free == 8 => used,
            _ => &self.bytes,
        }
    }

    /// Gives [`Self::used_bytes`] away.
    pub fn into_used_bytes(mut self) -> Vec<u8> {
        if self.n_free == 8 {
            self.bytes.pop();
        }
        self.bytes
    }

    /// What was written, to change what was known too early.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Fields that are put together in registers, on their way to the end of a [`BitWriter`]. Bytes that are whole go to a
/// buffer that is lent with each field: were it a part of the run, all else would be in memory too, and every field would
/// wait for what the one before stored there.
#[derive(Debug)]
pub(super) struct FieldRun {
    /// Whole bytes of the buffer.
    n_bytes: usize,
    /// The bits behind them, at the top.
    word: u64,
    /// How many, at most 7.
    n_bits: u32,
    /// Width of the field that was put last.
    n_last: u32,
}

impl FieldRun {
    /// So many bits are put at once.
    pub(super) const FIELD_BITS_MAX: u32 = 56;

    /// So many bits of fields may be put into one run whose buffer has `n_bytes`: those of the byte it begins in and of the
    /// word it ends in are not for fields.
    pub(super) const fn bits_max(n_bytes: usize) -> usize {
        (n_bytes - 9) * 8
    }

    /// Bytes it takes at the end of a writer, at most.
    pub(super) fn n_bytes_after(&self) -> usize {
        self.n_bytes + 2
    }

    /// Appends the low `n` bits of `value`, 1 to 64; the others are zero.
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, bytes: &mut [u8; N], value: u64, n: u32) {
        if n <= Self::FIELD_BITS_MAX {
            self.put_fields(bytes, value, (n, n));
        } else {
            self.put_fields(bytes, value >> 32, (n.wrapping_sub(32), n));
            self.put_fields(bytes, value & 0xffff_ffff, (32, n));
        }
    }

    /// Appends fields of `n` bits together, 1 to [`Self::FIELD_BITS_MAX`], of which the last one has `n_last`.
    #[inline(always)]
    pub(super) fn put_fields<const N: usize>(
        &mut self,
        bytes: &mut [u8; N],
        value: u64,
        (n, n_last): (u32, u32),
    ) {
        debug_assert!(0 < n && n <= Self::FIELD_BITS_MAX, "{n} bits");
        debug_assert!(value >> n == 0, "more than {n} bits");
        self.n_last = n_last;
        let n_bits = self.n_bits.wrapping_add(n);
        let word = self.word | value << (64u32.wrapping_sub(n_bits) & 63);
        debug_assert!(self.n_bytes + 8 <= N, "the run is too long");
        // Whole words at any byte: whether one is full is not worth a mispredicted branch.
        if let Some(place) =
            (bytes.get_mut(self.n_bytes..)).and_then(|free| free.first_chunk_mut::<8>())
        {
            *place = word.to_be_bytes();
        }
        self.n_bytes = self.n_bytes.wrapping_add(n_bits as usize / 8);
        self.word = word << (n_bits & 0x38);
        self.n_bits = n_bits & 7;
    }
}

impl BitWriter {
    /// Begins a run where the last field ended; [`Self::end_run`] takes it back.
    #[inline(always)]
    pub(super) fn begin_run(&mut self) -> FieldRun {
        let begun = if 0 < self.n_free {
            self.bytes.pop()
        } else {
            None
        };
        FieldRun {
            n_bytes: 0,
            word: u64::from(begun.unwrap_or(0)) << 56,
            n_bits: begun.map_or(0, |_| 8 - self.n_free),
            // An empty byte at the end stays there if nothing comes.
            n_last: self.n_free.max(1),
        }
    }

    /// Leaves what [`Self::put`] of each field would have left.
    #[inline(always)]
    pub(super) fn end_run<const N: usize>(&mut self, run: &FieldRun, bytes: &mut [u8; N]) {
        let n_last_bytes = u32::from(0 < run.n_bits);
        // A run without fields has stored nothing.
        if let Some(last) = bytes.get_mut(run.n_bytes) {
            *last = run.word.to_be_bytes()[0];
        }
        let n_bytes = run.n_bytes + n_last_bytes as usize;
        self.bytes
            .extend_from_slice(bytes.get(..n_bytes).unwrap_or_default());
        self.n_free = n_last_bytes * 8 - run.n_bits;
        if self.n_free == 0 && run.n_last.is_multiple_of(8) {
            self.bytes.push(0);
            self.n_free = 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_fill_bytes_from_the_top() {
        let mut writer = BitWriter::default();
        writer.put(0b1, 1);
        writer.put(0b01, 2);
        writer.put(0x1ff, 9);
        assert_eq!(writer.bytes(), [0b1011_1111, 0b1111_0000]);
        writer.put(0b1001, 4);
        assert_eq!(writer.bytes(), [0b1011_1111, 0b1111_1001]);
        writer.put(0x55, 8);
        assert_eq!(writer.bytes(), [0b1011_1111, 0b1111_1001, 0x55, 0]);
        writer.put(0xaa, 8);
        writer.put(0b1, 1);
        assert_eq!(writer.bytes(), [0b1011_1111, 0b1111_1001, 0x55, 0xaa, 0x80]);
    }

    proptest! {
        #[test]
        fn fields_come_back_as_they_were_put(
            fields in prop::collection::vec((any::<u64>(), 1u32..=64), 0..200),
        ) {
            let mut writer = BitWriter::default();
            for &(value, n) in &fields {
                writer.put(value, n);
            }
            let bytes = writer.into_bytes();
            let mut reader = BitReader::new(&bytes);
            for &(value, n) in &fields {
                let expect = value & (u64::MAX >> (64 - n));
                prop_assert_eq!(reader.bits(n), Ok(expect));
            }
            prop_assert!(reader.remaining() <= 8);
            prop_assert_eq!(reader.bits(9), Err(OutOfBits));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_run_leaves_what_its_fields_leave_one_by_one(
            long in runs(FieldRun::bits_max(320) / 64),
            short in runs(FieldRun::bits_max(32) / 64),
        ) {
            check_runs::<320>(long)?;
            check_runs::<32>(short)?;
        }
    }

    fn runs(n_fields_max: usize) -> impl Strategy<Value = Vec<Vec<(u64, u32)>>> {
        let fields = prop::collection::vec((any::<u64>(), 1u32..=64), 0..=n_fields_max);
        prop::collection::vec(fields, 0..8)
    }

    fn check_runs<const N: usize>(runs: Vec<Vec<(u64, u32)>>) -> Result<(), TestCaseError> {
        let (mut writer, mut by_one) = (BitWriter::default(), BitWriter::default());
        for fields in runs {
            let mut bytes = [0; N];
            let mut run = writer.begin_run();
            for &(value, n) in &fields {
                run.put(&mut bytes, value & (u64::MAX >> (64 - n)), n);
                by_one.put(value, n);
            }
            writer.end_run(&run, &mut bytes);
            prop_assert_eq!(writer.bytes(), by_one.bytes());
            prop_assert_eq!(writer.n_free, by_one.n_free);
        }
        Ok(())
    }

    #[test]
    fn runs_of_ones_end_at_a_zero_or_at_the_bound() {
        let mut reader = BitReader::new(&[0b1101_1110, 0b1111_1111]);
        assert_eq!(reader.ones(4), Ok(2));
        assert_eq!(reader.ones(4), Ok(4));
        assert_eq!(reader.bit(), Ok(false));
        assert_eq!(reader.ones(8), Ok(8));
        assert_eq!(reader.ones(8), Err(OutOfBits));
    }
}

//! How often each branch was taken, where the compiler was asked to count.
#![expect(
    unsafe_code,
    reason = "the counters are known by their address only; nobody but the compiler makes them"
)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The counters, eight in a word; nothing where nobody counts.
static WORDS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
static N_WORDS: AtomicUsize = AtomicUsize::new(0);

/// Told by every instrumented crate before `main` begins. The linker has laid all counters behind each other, so each
/// tells the same. A few at both ends, which fill no word, are left out.
// SAFETY: the name is that which the compiler calls, and nothing else has it.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    let n_skipped = start.align_offset(size_of::<AtomicU64>());
    let n_bytes = (stop.addr() - start.addr()).saturating_sub(n_skipped);
    WORDS.store(start.wrapping_add(n_skipped).cast(), Ordering::Relaxed);
    N_WORDS.store(n_bytes / size_of::<AtomicU64>(), Ordering::Release);
}

fn words() -> &'static [AtomicU64] {
    let (n, first) = (
        N_WORDS.load(Ordering::Acquire),
        WORDS.load(Ordering::Relaxed),
    );
    if n == 0 {
        return &[];
    }
    // SAFETY: `first` is aligned, and `n` words from there lie within what the linker made for the counters, which stays
    // as long as the process. Instrumented code adds to single bytes of it at any time: that loses a count at worst.
    unsafe { std::slice::from_raw_parts(first, n) }
}

/// Whether the compiler was asked to count.
pub(crate) fn is_counted() -> bool {
    !words().is_empty()
}

/// Whether one of them is not zero. Nearly all are zero, and this function counts its own branches, so it has none.
fn is_any([a, b, c, d, e, f, g, h]: &[AtomicU64; 8]) -> bool {
    let now = |word: &AtomicU64| word.load(Ordering::Relaxed);
    now(a) | now(b) | now(c) | now(d) | now(e) | now(f) | now(g) | now(h) != 0
}

/// Calls `see` with the place and the value of every counter that is not zero, and sets them to zero. Fewer than eight
/// words at the end are left out, too.
pub(crate) fn take(mut see: impl FnMut(usize, u8)) {
    for (at, together) in words().as_chunks().0.iter().enumerate() {
        if !is_any(together) {
            continue;
        }
        for (i, word) in together.iter().enumerate() {
            let first = (at * together.len() + i) * size_of::<AtomicU64>();
            let counts = word.swap(0, Ordering::Relaxed).to_le_bytes();
            for (place, count) in (first..).zip(counts).filter(|(_, count)| *count != 0) {
                see(place, count);
            }
        }
    }
}

//! How much memory a decoder holds at once.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by nature; this one counts and leaves the work to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Nobody may ask for so much at once: it is refused, which ends the process with the round's number.
const AT_ONCE_MAX: usize = 4 << 30;

thread_local! {
    /// Bytes this thread holds. Another thread may free them, so it can sink below zero.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most it held since somebody looked.
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// Seed and round, for the message before the end.
    static PLACE: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, and a count for each thread.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(change: isize) {
    // A thread that is ending has no counts any more.
    HELD.try_with(|held| {
        let now = held.get().wrapping_add(change);
        held.set(now);
        PEAK.try_with(|peak| peak.set(peak.get().max(now))).ok();
    })
    .ok();
}

fn size(n_bytes: usize) -> isize {
    isize::try_from(n_bytes).unwrap_or(isize::MAX)
}

fn is_absurd(n_bytes: usize) -> bool {
    if n_bytes <= AT_ONCE_MAX {
        return false;
    }
    let (seed, round) = PLACE.try_with(Cell::get).unwrap_or_default();
    eprintln!("seed {seed} round {round}: {n_bytes} bytes are asked for at once");
    true
}

// SAFETY: every call goes to the system's allocator with the same arguments, or fails with a null pointer, which the
// trait allows; counting touches only numbers of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_absurd(layout.size()) {
            return std::ptr::null_mut();
        }
        note(size(layout.size()));
        // SAFETY: the caller keeps the promises of `alloc`, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_absurd(layout.size()) {
            return std::ptr::null_mut();
        }
        note(size(layout.size()));
        // SAFETY: the caller keeps the promises of `alloc_zeroed`, which are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(size(layout.size()).wrapping_neg());
        // SAFETY: `pointer` came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, n_bytes: usize) -> *mut u8 {
        if is_absurd(n_bytes) {
            return std::ptr::null_mut();
        }
        note(size(n_bytes).wrapping_sub(size(layout.size())));
        // SAFETY: `pointer` came from the system's allocator with this layout, and the caller keeps the other promises.
        unsafe { System.realloc(pointer, layout, n_bytes) }
    }
}

/// Says which round this thread is in.
pub(crate) fn place(seed: u64, round: u64) {
    PLACE.set((seed, round));
}

/// What `work` returns, and the most bytes this thread held meanwhile beyond what it held before.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    let peak = PEAK.get().saturating_sub(before);
    (result, usize::try_from(peak).unwrap_or(0))
}

#[test]
fn memory_that_is_held_for_a_moment_is_seen() {
    let (n, peak) = measured(|| Vec::<u8>::with_capacity(1 << 20).len());
    assert_eq!(n, 0);
    assert!((1 << 20..2 << 20).contains(&peak), "{peak}");
}

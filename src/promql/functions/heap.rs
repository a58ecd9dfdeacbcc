//! The best `k` of many, with the same choice among equals as Prometheus makes.
//!
//! Which of several equal values stay follows from how Go's `container/heap` moves its elements, and what comes out
//! first from how Go's `sort` does: both are repeated here move by move.
#![expect(
    clippy::indexing_slicing,
    reason = "positions are below the length of the heap, which every function is given"
)]

/// Up to this length Go's `sort` inserts one by one; above, the order of equals is left open here.
const INSERTION_LEN_MAX: usize = 12;

/// A candidate: which one, and its value.
pub(crate) type Candidate = (usize, f64);

/// Does `a` go before `b`? No number goes before any; two that are none each before the other.
pub(crate) type Worse = fn(f64, f64) -> bool;

/// The worse of two for `topk`.
pub(crate) fn smaller(a: f64, b: f64) -> bool {
    a.is_nan() || a < b
}

/// The worse of two for `bottomk`.
pub(crate) fn larger(a: f64, b: f64) -> bool {
    a.is_nan() || a > b
}

/// The best of the candidates so far.
#[derive(Debug)]
pub(crate) struct Best {
    k: usize,
    worse: Worse,
    heap: Vec<Candidate>,
}

impl Best {
    /// At most `k` of those to come.
    pub(crate) fn new(k: usize, worse: Worse) -> Self {
        Self {
            k,
            worse,
            heap: Vec::new(),
        }
    }

    /// One more candidate.
    #[inline]
    pub(crate) fn offer(&mut self, candidate: Candidate) {
        let (heap, worse) = (&mut self.heap, self.worse);
        if heap.len() < self.k {
            heap.push(candidate);
            up(heap, worse);
        } else if let Some(worst) = heap.first_mut()
            && !candidate.1.is_nan()
            && worse(worst.1, candidate.1)
        {
            *worst = candidate;
            down(heap, worse);
        }
    }

    /// Those that stayed, in no order that means anything.
    pub(crate) fn stayed(&self) -> &[Candidate] {
        &self.heap
    }
}

/// At most `k` of `candidates`, best first.
pub(crate) fn best(
    k: usize,
    worse: Worse,
    candidates: impl Iterator<Item = Candidate>,
) -> Vec<usize> {
    let mut best = Best::new(k, worse);
    candidates.for_each(|candidate| best.offer(candidate));
    let mut heap = best.heap;
    if heap.len() <= INSERTION_LEN_MAX {
        insertion_sort(&mut heap, worse);
    } else {
        heap.sort_by(|a, b| match (a.1.is_nan(), b.1.is_nan()) {
            (false, false) if worse(b.1, a.1) => std::cmp::Ordering::Less,
            (false, false) if worse(a.1, b.1) => std::cmp::Ordering::Greater,
            (a, b) => a.cmp(&b),
        });
    }
    heap.into_iter().map(|(i, _)| i).collect()
}

/// Moves the last element to its place.
fn up(heap: &mut [Candidate], worse: Worse) {
    let mut child = heap.len() - 1;
    while child > 0 {
        let parent = (child - 1) / 2;
        if !worse(heap[child].1, heap[parent].1) {
            break;
        }
        heap.swap(parent, child);
        child = parent;
    }
}

/// Moves the first element to its place.
fn down(heap: &mut [Candidate], worse: Worse) {
    let mut parent = 0;
    loop {
        let left = 2 * parent + 1;
        if left >= heap.len() {
            break;
        }
        let right = left + 1;
        let child = if right < heap.len() && worse(heap[right].1, heap[left].1) {
            right
        } else {
            left
        };
        if !worse(heap[child].1, heap[parent].1) {
            break;
        }
        heap.swap(parent, child);
        parent = child;
    }
}

fn insertion_sort(heap: &mut [Candidate], worse: Worse) {
    for end in 1..heap.len() {
        let mut at = end;
        while at > 0 && worse(heap[at - 1].1, heap[at].1) {
            heap.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(k: usize, worse: Worse, values: &[f64], expect: &[usize]) {
        let candidates = values.iter().copied().enumerate();
        assert_eq!(best(k, worse, candidates), expect, "{values:?}");
    }

    #[test]
    fn among_equals_those_stay_that_stay_in_a_go_heap() {
        let inf = f64::INFINITY;
        // One finite value throws out the first of nine infinities, and nothing throws out the second.
        check(2, larger, &[inf, inf, inf, inf, 1.0, inf], &[4, 1]);
        check(
            5,
            smaller,
            &[1.0, 1.0, 2.0, 1.0, 1.0, 2.0],
            &[2, 5, 1, 3, 4],
        );
        check(3, larger, &[5.0, 5.0, 5.0, 5.0, 4.0], &[4, 1, 2]);
    }

    #[test]
    fn what_is_no_number_stays_only_where_nothing_else_is() {
        check(3, smaller, &[f64::NAN, 1.0, f64::NAN, 3.0, 2.0], &[3, 4, 1]);
        check(3, larger, &[f64::NAN, 1.0, 3.0], &[1, 2, 0]);
        check(2, smaller, &[f64::NAN; 3], &[0, 1]);
    }

    #[test]
    fn many_come_out_in_order() {
        let values: Vec<f64> = (0..40).map(|n| f64::from(n * 17 % 40)).collect();
        let found = best(20, smaller, values.iter().copied().enumerate());
        let found: Vec<f64> = found.into_iter().map(|i| values[i]).collect();
        let expect: Vec<f64> = (20..40).rev().map(f64::from).collect();
        assert_eq!(found, expect);
    }
}

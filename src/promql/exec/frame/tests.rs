//! Columns by themselves.

use super::*;
use crate::foundation::{Cancel, ManualClock};

fn budget() -> Arc<Budget> {
    let clock = Arc::new(ManualClock::new(0));
    Arc::new(Budget::new(1_000, Cancel::new(), clock, i64::MAX))
}

#[test]
fn rows_keep_values_where_bits_are_set() {
    let budget = budget();
    let mut frame = Frame::new(130, &budget);
    let mut row = frame.push(Head::new(Labels::empty()));
    for i in [0, 63, 64, 129] {
        row.set(i, 1.0);
    }
    row.unset(63);
    frame.settle_last().unwrap();
    let row = frame.row(0);
    assert_eq!(row.iter().map(|(i, _)| i).collect::<Vec<_>>(), [0, 64, 129]);
    assert_eq!((row.get(63), row.get(64)), (None, Some(1.0)));
    assert_eq!(count_ones(&frame.any_present()), 3);
}

#[test]
fn series_without_values_go_and_the_rest_is_booked_and_given_back() {
    let budget = budget();
    let mut frame = Frame::new(3, &budget);
    frame.push(Head::new(Labels::empty()));
    frame.push(Head::new(Labels::empty())).set(2, 5.0);
    frame.settle(&budget).unwrap();
    assert_eq!((frame.len(), frame.row(0).get(2)), (1, Some(5.0)));
    drop(frame);
    budget.take(1_000).unwrap();
}

#[test]
fn a_step_has_a_float_or_a_histogram_or_nothing() {
    let budget = budget();
    let mut frame = Frame::new(70, &budget);
    let histogram = Arc::new(Histogram::default());
    let mut row = frame.push(Head::new(Labels::empty()));
    row.set(0, 1.0);
    row.set_histogram(0, Arc::clone(&histogram));
    row.set_histogram(1, Arc::clone(&histogram));
    row.set(1, 2.0);
    row.set_histogram(69, Arc::clone(&histogram));
    frame.settle_last().unwrap();
    let row = frame.row(0);
    assert_eq!(row.cell(0), Some(Cell::Histogram(&histogram)));
    assert_eq!((row.get(0), row.get(1)), (None, Some(2.0)));
    assert_eq!(row.iter().collect::<Vec<_>>(), [(1, 2.0)]);
    assert_eq!(
        row.histograms().map(|(i, _)| i).collect::<Vec<_>>(),
        [0, 69]
    );
    assert_eq!(row.cells().count(), 3);
    frame.drop_histograms();
    let row = frame.row(0);
    assert_eq!((row.count(), row.has_histograms()), (1, false));
}

#[test]
fn broadcasting_repeats_the_first_step() {
    let budget = budget();
    let mut frame = Frame::new(1, &budget);
    frame.push(Head::new(Labels::empty())).set(0, 7.0);
    let wide = frame.broadcast(4, &budget).unwrap();
    assert_eq!(wide.row(0).count(), 4);
    assert_eq!(wide.row(0).get(3), Some(7.0));
}

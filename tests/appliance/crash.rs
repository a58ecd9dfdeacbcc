//! `kill -9` in a loop: what was acknowledged is there, once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Start, now_ms, pause, report};

/// Rounds of writing, cutting and killing, where GAUNTLET_KILL_ROUNDS does not say otherwise.
const ROUNDS: i64 = 50;

#[test]
fn every_acknowledged_sample_survives_kills_while_blocks_are_cut() {
    let rounds = std::env::var("GAUNTLET_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    let mut dir = None;
    // Each round writes ten seconds of samples, so that with ranges of 20 s a block is due in most rounds.
    let first_ms = now_ms() - rounds * 10_000;
    let mut acknowledged = BTreeMap::new();
    let mut sent = BTreeMap::new();
    let mut n_sent = 0_u32;
    for round in 0..rounds {
        let mut start = Start::new()
            .set("head.block_range", "20s")
            .set("retention.time", "0");
        if let Some(dir) = &dir {
            start = start.again_in(dir);
        }
        let appliance = start.run();
        dir = Some(appliance.dir());
        let seen = appliance.samples("counted", first_ms, now_ms());
        let mut times: Vec<i64> = seen.iter().map(|(t, _)| *t).collect();
        times.dedup();
        assert_eq!(times.len(), seen.len(), "a sample twice in round {round}");
        let seen: BTreeMap<i64, u64> = seen.into_iter().map(|(t, v)| (t, v.to_bits())).collect();
        for (t, v) in &acknowledged {
            assert_eq!(seen.get(t), Some(v), "sample {t} of a round before {round}");
        }
        for (t, v) in &seen {
            assert_eq!(
                sent.get(t),
                Some(v),
                "sample {t} was never sent, round {round}"
            );
        }
        for second in 0..10 {
            let t = first_ms + round * 10_000 + second * 1000;
            let v = f64::from(n_sent) / 8.0;
            n_sent += 1;
            sent.insert(t, v.to_bits());
            if appliance.write(&[("__name__", "counted")], &[(t, v)]) == 204 {
                acknowledged.insert(t, v.to_bits());
            }
        }
        // Somewhere before, in or after the cut that looks every second.
        pause(Duration::from_millis(round.unsigned_abs() * 137 % 1100));
        appliance.kill();
    }
    report(&format!(
        "{} acknowledged samples survived {rounds} kills",
        acknowledged.len()
    ));
    assert_eq!(acknowledged.len(), usize::try_from(rounds * 10).unwrap());
}

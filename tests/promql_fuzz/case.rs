//! A query with its times, and who answers it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use gauntlet::block::Block;
use gauntlet::model::TimestampMs;
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryOutput};
use gauntlet::storage::Queryable;

use crate::answer::Answer;
use crate::data::START_MS;
use crate::dice::Dice;
use crate::generate::Generator;
use crate::leaves::Dialect;

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    /// Zero for an instant query.
    pub(crate) step_ms: i64,
}

/// A question to both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) query: String,
    pub(crate) times: Times,
}

impl Case {
    /// The case of one round of a seed.
    pub(crate) fn new(seed: u64, round: u64, dialect: Dialect) -> Self {
        let mut dice = Dice::new(seed, round);
        let is_range = dice.chance(50);
        let start = START_MS + dice.between(-60, 7500) * 1000 + 337;
        let step_ms = [15_000, 30_000, 60_000, 97_000, 300_000, 420_000][dice.below(6)];
        let n_steps = dice.between(0, 25);
        let depth = 1 + dice.below(5);
        let mut generator = Generator {
            dice: &mut dice,
            dialect,
        };
        let query = generator.query(depth, is_range);
        let times = if is_range {
            Times {
                start,
                end: start + n_steps * step_ms + 7_000,
                step_ms,
            }
        } else {
            Times {
                start,
                end: start,
                step_ms: 0,
            }
        };
        Self { query, times }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Times {
            start,
            end,
            step_ms,
        } = self.times;
        if step_ms == 0 {
            write!(f, "{} at {start}", self.query)
        } else {
            write!(f, "{} from {start} to {end} every {step_ms}", self.query)
        }
    }
}

/// Our engine on the block.
pub(crate) struct Ours {
    engine: Engine,
    block: Arc<dyn Queryable>,
}

impl Ours {
    /// Opens the block at `dir`.
    pub(crate) fn open(dir: &Path, delayed_name_removal: bool) -> Self {
        let settings = EngineSettings {
            delayed_name_removal,
            ..EngineSettings::default()
        };
        Self {
            engine: Engine::new(settings, None),
            block: Arc::new(Block::open(dir).unwrap()),
        }
    }

    /// The answer; a panic is an error that no other side has.
    pub(crate) fn ask(&self, case: &Case) -> Answer {
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.output(case, &QueryOptions::default())
        }));
        match asked {
            Ok(result) => Answer::ours(result),
            Err(_) => Answer::Text("PANIC".to_owned()),
        }
    }

    /// The answer with all that is said about it.
    pub(crate) fn output(
        &self,
        case: &Case,
        options: &QueryOptions,
    ) -> Result<QueryOutput, gauntlet::promql::QueryError> {
        let Times {
            start,
            end,
            step_ms,
        } = case.times;
        let block = Arc::clone(&self.block);
        if step_ms == 0 {
            self.engine.instant(block, &case.query, start, options)
        } else {
            self.engine
                .range(block, &case.query, start, end, step_ms, options)
        }
    }
}

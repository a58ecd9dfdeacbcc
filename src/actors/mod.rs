//! WHO DOES IT, AND WHEN.
//!
//! Owns: one actor a file, its messages at the top: when something is done, how many at once, and who is told.
//! Never: computes for more than a millisecond, or formats an answer.
//! Tested by: full gates, silence and the way of a block in `tests` and beside the actors; panics in `tests/appliance`.
mod brief;
pub mod compactor;
pub mod duty;
pub mod head_keeper;
pub mod log_shipper;
#[cfg(test)]
mod log_shipper_tests;
pub mod querier;
pub mod released;
pub mod scrape_sidecar;
pub mod shipper;
pub mod steward;
pub mod store_gateway;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use actix::prelude::*;

/// Asks an actor how it is: a small plain state, for tests, pages and metrics.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "S")]
pub struct Observe<S: 'static>(std::marker::PhantomData<S>);

impl<S: 'static> Default for Observe<S> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

/// Makes the actor panic. Only test builds know the message.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct PanicNow;

/// Lets an actor panic on demand in test builds.
macro_rules! panics_on_demand {
    ($actor:ty) => {
        #[cfg(debug_assertions)]
        impl actix::Handler<crate::actors::PanicNow> for $actor {
            type Result = ();

            fn handle(&mut self, _: crate::actors::PanicNow, _: &mut Self::Context) {
                panic!("a panic was asked for");
            }
        }
    };
}
pub(crate) use panics_on_demand;

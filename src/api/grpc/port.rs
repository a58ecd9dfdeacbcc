//! Where answers come from: what the appliance hands in.

use std::sync::Arc;

use crate::model::{Interval, Labels};
use crate::storage::Queryable;

/// A database that is answered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its external labels.
    pub external: Labels,
    /// Its oldest and newest sample.
    pub interval: Interval,
}

/// Everything the appliance answers for.
pub trait Source: Send + Sync + 'static {
    /// Is everything loaded?
    fn is_ready(&self) -> bool;

    /// External labels of this appliance.
    fn external_labels(&self) -> Labels;

    /// A snapshot of the appliance's own series, without external labels.
    fn own(&self) -> Arc<dyn Queryable>;

    /// A snapshot of series of other producers, each under its producer's external labels.
    fn others(&self) -> Option<Arc<dyn Queryable>>;

    /// The databases behind both, this appliance's own first.
    fn databases(&self) -> Vec<Database>;
}

//! `thanos.info.Info`: what this process answers for.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::api::grpc::convert::label_set;
use crate::api::grpc::port::{Database, Source};
use crate::api::grpc::status::guarded;
use crate::wire::thanos::info::info_server::Info;
use crate::wire::thanos::info::{InfoRequest, InfoResponse, StoreInfo, TsdbInfo};

/// The appliance answers for scraping, storage, bucket and peers alike, as a querier does.
const COMPONENT: &str = "query";

pub(crate) struct InfoService {
    pub(crate) source: Arc<dyn Source>,
}

#[tonic::async_trait]
impl Info for InfoService {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        guarded(async {
            if !self.source.is_ready() {
                return Err(Status::unavailable("Not ready"));
            }
            Ok(Response::new(describe(&self.source.databases())))
        })
        .await
    }
}

fn describe(databases: &[Database]) -> InfoResponse {
    let min_time = databases.iter().map(|database| database.interval.min).min();
    let max_time = databases.iter().map(|database| database.interval.max).max();
    let mut label_sets = Vec::new();
    for database in databases {
        let set = label_set(&database.external);
        if !label_sets.contains(&set) {
            label_sets.push(set);
        }
    }
    let tsdb_infos = databases.iter().map(|database| TsdbInfo {
        labels: Some(label_set(&database.external)),
        min_time: database.interval.min,
        max_time: database.interval.max,
    });
    InfoResponse {
        label_sets,
        component_type: COMPONENT.to_owned(),
        store: Some(StoreInfo {
            // Without any sample: a range that overlaps nothing.
            min_time: min_time.unwrap_or(i64::MAX),
            max_time: max_time.unwrap_or(i64::MIN),
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: tsdb_infos.collect(),
            supports_projections: false,
        }),
        ..InfoResponse::default()
    }
}

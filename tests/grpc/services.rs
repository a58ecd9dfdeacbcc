//! Info, health and reflection.

use gauntlet::wire::thanos::info::InfoRequest;
use gauntlet::wire::thanos::info::info_client::InfoClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::Fixture;
use crate::source::{Fault, Memory};

#[tokio::test]
async fn info_says_what_is_served_once_it_is_ready() {
    let fixture = Fixture::plain().await;
    let mut client = InfoClient::new(fixture.channel.clone());
    let info = client.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.component_type, "query");
    let store = info.store.unwrap();
    assert_eq!((store.min_time, store.max_time), (0, 299_000));
    assert!(store.supports_sharding);
    assert!(store.supports_without_replica_labels);
    let [database] = &store.tsdb_infos[..] else {
        panic!("{store:?}")
    };
    assert_eq!(database.labels.as_ref(), info.label_sets.first());
    assert_eq!(info.label_sets[0].labels[1].value, "r1");

    let fixture = Fixture::start(Memory::new(&[], Fault::None), |appliance, _| {
        appliance.is_ready = false;
    })
    .await;
    let mut client = InfoClient::new(fixture.channel.clone());
    let status = client.info(InfoRequest {}).await.unwrap_err();
    assert_eq!(status.message(), "Not ready");
}

#[tokio::test]
async fn health_follows_the_appliance() {
    let fixture = Fixture::plain().await;
    let mut client = HealthClient::new(fixture.channel.clone());
    for (is_serving, expect) in [(false, 2), (true, 1), (false, 2)] {
        fixture.server.set_serving(is_serving).await;
        for service in ["", "thanos.Store", "thanos.info.Info"] {
            let service = service.to_owned();
            let answer = client.check(HealthCheckRequest { service }).await.unwrap();
            assert_eq!(answer.into_inner().status, expect);
        }
    }
}

#[tokio::test]
async fn reflection_lists_the_services_and_their_messages() {
    let fixture = Fixture::plain().await;
    let mut client = ServerReflectionClient::new(fixture.channel.clone());
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "thanos.SeriesRequest".to_owned(),
        )),
    ];
    let answers = client
        .server_reflection_info(tokio_stream::iter(asked))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    let first = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = first else {
        panic!("{first:?}")
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in ["thanos.Store", "thanos.info.Info", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let second = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(second, MessageResponse::FileDescriptorResponse(_)),
        "{second:?}"
    );
}

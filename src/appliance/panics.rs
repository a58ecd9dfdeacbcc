//! Panics on demand, in test builds only: `POST /-/panic/{actor}`.

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Responder};

use crate::actors::PanicNow;
use crate::appliance::ports::Ports;

/// The one path.
pub(crate) fn routes(config: &mut ServiceConfig) {
    config.route("/-/panic/{actor}", web::post().to(panic_now));
}

async fn panic_now(actor: web::Path<String>, ports: web::Data<Ports>) -> impl Responder {
    let Some(opened) = ports.opened() else {
        return HttpResponse::ServiceUnavailable().body("starting or stopping");
    };
    let actors = &opened.actors;
    // The message is lost with the life it ends: that is the answer that was asked for.
    let lost = match actor.as_str() {
        "steward" => actors.steward.send(PanicNow).await,
        "store_gateway" => actors.store_gateway.send(PanicNow).await,
        "shipper" => actors.shipper.send(PanicNow).await,
        "compactor" => actors.compactor.send(PanicNow).await,
        "log_shipper" => actors.log_shipper.send(PanicNow).await,
        "head_keeper" => actors.head_keeper.send(PanicNow).await,
        "querier" => actors.querier.send(PanicNow).await,
        "scrape_sidecar" => actors.scrape_sidecar.send(PanicNow).await,
        _ => return HttpResponse::NotFound().body("no such actor"),
    };
    match lost {
        Err(_closed) => HttpResponse::Ok().body("panicked"),
        Ok(()) => HttpResponse::InternalServerError().body("the actor did not panic"),
    }
}

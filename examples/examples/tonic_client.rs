//! A gRPC client whose calls travel through HBONE. `cargo run --example tonic_client`

mod support;

use std::error::Error;

use examples::connector::{HboneConnector, HboneStream};
use hbone::{Tunnel, pool::Pool};
use hyper::server::conn::http2;
use hyper_util::{rt::TokioExecutor, service::TowerToHyperService};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{:?}", health().await?);
    Ok(())
}

/// Asks `stock` how it is.
async fn health() -> Result<ServingStatus, Box<dyn Error + Send + Sync>> {
    let (dialer, next_hop) = support::mesh(serve).await?;

    let connector = HboneConnector::new(Pool::new(dialer), next_hop);
    let endpoint = Endpoint::from_static("http://stock.shop.svc.cluster.local:50051");
    let mut client = HealthClient::new(endpoint.connect_with_connector(connector).await?);

    let answer = client.check(HealthCheckRequest { service: String::new() }).await?;
    Ok(answer.into_inner().status())
}

/// The application: gRPC's own health service on what arrives in a tunnel.
async fn serve(tunnel: Tunnel) {
    let (_reporter, service) = tonic_health::server::health_reporter();
    let service = TowerToHyperService::new(service);
    let connection = http2::Builder::new(TokioExecutor::new());
    // A client that leaves is its own business.
    let _ = connection.serve_connection(HboneStream::new(tunnel), service).await;
}

#[cfg(test)]
mod tests {
    use super::ServingStatus;

    #[tokio::test]
    async fn call_travels_through_a_tunnel() {
        assert_eq!(super::health().await.unwrap(), ServingStatus::Serving);
    }
}

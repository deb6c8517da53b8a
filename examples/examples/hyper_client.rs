//! An HTTP client whose requests travel through HBONE. `cargo run --example hyper_client`

mod support;

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use examples::connector::{HboneConnector, HboneStream};
use hbone::{Tunnel, pool::Pool};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{}", prices().await?);
    Ok(())
}

/// Asks `stock` for its prices.
async fn prices() -> Result<String, Box<dyn Error + Send + Sync>> {
    let (dialer, next_hop) = support::mesh(serve).await?;

    let connector = HboneConnector::new(Pool::new(dialer), next_hop);
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.get("http://stock.shop.svc.cluster.local:8080/prices".parse()?).await?;

    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.into())?)
}

/// The application: HTTP/1.1 on what arrives in a tunnel.
async fn serve(tunnel: Tunnel) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        let text = format!("{} at {:?}", request.uri().path(), request.headers().get("host"));
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    // A client that leaves is its own business.
    let _ = http1::Builder::new().serve_connection(HboneStream::new(tunnel), answer).await;
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn request_travels_through_a_tunnel() {
        let answer = super::prices().await.unwrap();
        assert_eq!(answer, "/prices at Some(\"stock.shop.svc.cluster.local:8080\")");
    }
}

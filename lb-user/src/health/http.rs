//! An HTTP/1.1 request (RFC 9110, RFC 9112), with or without TLS.

use std::{
    convert::Infallible,
    error::Error,
    future::pending,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT},
    http::{
        self,
        uri::{Authority, PathAndQuery},
    },
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
};

use super::{
    Failure, body,
    destination::{Awaited, Destination},
    tls,
};
use crate::config::{self, HttpCheck, Tls};

/// Passes if the response has a status and a body that are wanted. Redirects aren't followed.
pub(super) async fn check(
    destination: Destination,
    asked: &HttpCheck,
    awaited: &Awaited,
) -> Result<(), Failure> {
    let request = request(asked, destination.address);
    let request = request.map_err(|error| Failure::Unsent(error.to_string()))?;
    awaited.set("SYN-ACK");
    let stream = destination.connect(asked.port).await?;
    match &asked.tls {
        None => talk(stream, request, asked, awaited).await,
        Some(tls) => {
            awaited.set("TLS handshake");
            let name = server_name(tls, asked.host.as_deref(), destination.address);
            let stream = tls::handshake(stream, name, tls.verify).await?;
            talk(stream, request, asked, awaited).await
        }
    }
}

fn request(asked: &HttpCheck, address: IpAddr) -> http::Result<Request<Empty<Bytes>>> {
    let method = match asked.method {
        config::Method::Get => Method::GET,
        config::Method::Head => Method::HEAD,
    };
    let host = match &asked.host {
        Some(host) => host.clone(),
        None => default_host(asked, address),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(PathAndQuery::try_from(&asked.path)?)
        .header(HOST, host)
        .body(Empty::new())?;
    let headers = request.headers_mut();
    for (name, value) in &asked.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    for (name, value) in [(USER_AGENT, "lb-health"), (CONNECTION, "close")] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    Ok(request)
}

/// Without the port that is understood (RFC 9110 section 4.2).
fn default_host(asked: &HttpCheck, address: IpAddr) -> String {
    let understood = if asked.tls.is_some() { 443 } else { 80 };
    match address {
        _ if asked.port != understood => SocketAddr::new(address, asked.port).to_string(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The address if there is no name: TLS doesn't send it, but a certificate can be for it.
fn server_name(tls: &Tls, host: Option<&str>, address: IpAddr) -> ServerName<'static> {
    if let Some(name) = &tls.server_name
        && let Ok(name) = ServerName::try_from(name.clone())
    {
        return name;
    }
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    match host.map(|host| ServerName::try_from(host.host().to_owned())) {
        Some(Ok(name @ ServerName::DnsName(_))) => name,
        _ => address.into(),
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    asked: &HttpCheck,
    awaited: &Awaited,
) -> Result<(), Failure> {
    awaited.set("response");
    let before_response = |error| failure(&error, "connection closed before a response");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(before_response)?;
    let answer = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(before_response)?;
        verify_status(&asked.status, response.status())?;
        if let Some(wanted) = &asked.body {
            awaited.set("rest of the response");
            let bytes = first_bytes(response.into_body()).await;
            let bytes = bytes.map_err(|error| {
                failure(&error, "connection closed in the middle of a response")
            })?;
            body::verify(wanted, &bytes)?;
        }
        Ok(())
    };
    // `answer` hears of all that goes wrong with the connection, and may have more to read when it is over.
    let connection = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    select! {
        answer = answer => answer,
        never = connection => match never {},
    }
}

fn verify_status(wanted: &[(u16, u16)], status: StatusCode) -> Result<(), Failure> {
    let status = status.as_u16();
    let mut ranges = wanted.iter();
    if ranges.any(|&(first, last)| (first..=last).contains(&status)) {
        return Ok(());
    }
    let words = wanted.iter().map(|&(first, last)| match last {
        _ if first == last => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    let wanted = words.collect::<Vec<_>>().join(", ");
    Err(Failure::Answer(format!(
        "status {status} (expected {wanted})"
    )))
}

/// At most [`HttpCheck::BODY_LIMIT`].
async fn first_bytes(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < HttpCheck::BODY_LIMIT
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend(data);
        }
    }
    bytes.truncate(HttpCheck::BODY_LIMIT);
    Ok(bytes)
}

/// `closed` says what it means that the connection was closed.
fn failure(error: &hyper::Error, closed: &str) -> Failure {
    let source = error.source();
    let io_error = source.and_then(|source| source.downcast_ref::<io::Error>());
    let is_end = |error: &io::Error| error.kind() == ErrorKind::UnexpectedEof;
    match io_error {
        _ if error.is_incomplete_message() || io_error.is_some_and(is_end) => {
            Failure::Answer(closed.to_owned())
        }
        Some(error) => error.into(),
        None => {
            let error = error.to_string();
            let words = error.trim_end_matches(" parsed");
            Failure::Answer(format!("no HTTP: {words}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use rustls::{ServerConfig, crypto::ring};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{
        config::{Body, Via},
        health::test_servers::{V4, V6, closed_tcp_port, outcome_of, silent_tcp_port, tcp_server},
    };

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    fn get(port: u16) -> HttpCheck {
        HttpCheck {
            via: Via::Real,
            port,
            tls: None,
            method: config::Method::Get,
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            status: vec![(200, 399)],
            body: None,
        }
    }

    fn with_ok(port: u16) -> HttpCheck {
        HttpCheck {
            body: Some(Body::Contains("ok".to_owned())),
            ..get(port)
        }
    }

    async fn outcome(address: IpAddr, asked: HttpCheck) -> Result<(), Failure> {
        outcome_of(address, async |destination, awaited| {
            check(destination, &asked, awaited).await
        })
        .await
    }

    /// The head of a request.
    async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Where a request gets this as its response; then the connection is closed.
    async fn answering(address: IpAddr, response: impl Into<Vec<u8>>) -> u16 {
        let response = response.into();
        tcp_server(address, async move |mut stream| {
            read_request(&mut stream).await;
            // Who has seen enough closes first.
            let _ = stream.write_all(&response).await;
        })
        .await
    }

    /// Where a request gets this as the beginning of its response, and no more.
    async fn hanging_after(response: &'static str) -> u16 {
        tcp_server(V4, async move |mut stream| {
            read_request(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
            pending::<()>().await;
        })
        .await
    }

    fn answer(words: &str) -> Result<(), Failure> {
        Err(Failure::Answer(words.to_owned()))
    }

    #[rstest]
    #[case::first(200, &[(200, 399)], None)]
    #[case::last(399, &[(200, 399)], None)]
    #[case::redirect(302, &[(200, 399)], None)]
    #[case::above(503, &[(200, 399)], Some("status 503 (expected 200-399)"))]
    #[case::below(199, &[(200, 200)], Some("connection closed before a response"))]
    #[case::second(404, &[(200, 204), (404, 404)], None)]
    #[case::between(301, &[(200, 204), (404, 404)], Some("status 301 (expected 200-204, 404)"))]
    #[tokio::test]
    async fn a_status_passes_if_it_is_wanted(
        #[values(V4, V6)] address: IpAddr,
        #[case] status: u16,
        #[case] wanted: &[(u16, u16)],
        #[case] failure: Option<&str>,
    ) {
        let response = format!("HTTP/1.1 {status} Whatever\r\nLocation: /other\r\n\r\n");
        let port = answering(address, response).await;
        let asked = HttpCheck {
            status: wanted.to_vec(),
            ..get(port)
        };
        let expected = failure.map_or(Ok(()), answer);
        assert_eq!(outcome(address, asked).await, expected);
    }

    #[rstest]
    #[case::length(OK, true)]
    #[case::other_length("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", false)]
    #[case::chunked(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        true
    )]
    #[case::until_the_end("HTTP/1.0 200 OK\r\n\r\nall ok", true)]
    #[case::after_an_interim_response(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
        true
    )]
    #[case::none("HTTP/1.1 204 No Content\r\n\r\n", false)]
    #[tokio::test]
    async fn a_body_passes_if_it_has_what_is_wanted(#[case] response: &str, #[case] passes: bool) {
        let port = answering(V4, response).await;
        let expected = if passes {
            Ok(())
        } else {
            answer("body without `ok`")
        };
        assert_eq!(outcome(V4, with_ok(port)).await, expected);
    }

    #[rstest]
    #[case::in_time(HttpCheck::BODY_LIMIT - 2, true)]
    #[case::too_late(HttpCheck::BODY_LIMIT - 1, false)]
    #[tokio::test]
    async fn the_beginning_of_an_endless_body_is_enough(
        #[case] before: usize,
        #[case] passes: bool,
    ) {
        let port = tcp_server(V4, async move |mut stream| {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\n\r\n";
            let body = [&vec![b'x'; before], b"ok".as_slice()].concat();
            stream.write_all(head).await.unwrap();
            stream.write_all(&body).await.unwrap();
            while stream.write_all(&[b'x'; 1000]).await.is_ok() {}
        })
        .await;
        let expected = if passes {
            Ok(())
        } else {
            answer("body without `ok`")
        };
        assert_eq!(outcome(V4, with_ok(port)).await, expected);
    }

    #[tokio::test]
    async fn a_body_that_does_not_matter_is_not_waited_for() {
        let port = hanging_after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
        assert_eq!(outcome(V4, get(port)).await, Ok(()));
    }

    #[rstest]
    #[case::nothing("", "response")]
    #[case::half_a_head("HTTP/1.1 200 OK\r\nContent-Le", "response")]
    #[case::an_interim_response("HTTP/1.1 103 Early Hints\r\n\r\n", "response")]
    #[case::a_head("HTTP/1.1 200 OK\r\n\r\n", "rest of the response")]
    #[case::half_a_body(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "rest of the response"
    )]
    #[tokio::test]
    async fn what_does_not_come_in_time_is_named(
        #[case] response: &'static str,
        #[case] awaited: &'static str,
    ) {
        let port = hanging_after(response).await;
        let expected = Err(Failure::Silence(awaited));
        assert_eq!(outcome(V4, with_ok(port)).await, expected);
    }

    #[rstest]
    #[case::at_once("", "connection closed before a response")]
    #[case::in_the_head("HTTP/1.1 200 OK\r\nConte", "connection closed before a response")]
    #[case::in_the_body(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "connection closed in the middle of a response"
    )]
    #[case::in_a_chunk(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
        "connection closed in the middle of a response"
    )]
    #[case::no_status("SSH-2.0-OpenSSH_9.9\r\n", "no HTTP: invalid HTTP version")]
    #[case::no_header("HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no HTTP: invalid HTTP header")]
    #[case::no_length(
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "no HTTP: invalid content-length"
    )]
    #[case::no_chunk(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "invalid chunk size line: missing size digit"
    )]
    #[tokio::test]
    async fn what_is_no_response_is_explained(#[case] response: &str, #[case] words: &str) {
        let port = answering(V4, response).await;
        assert_eq!(outcome(V4, with_ok(port)).await, answer(words));
    }

    #[tokio::test]
    async fn an_endless_head_is_no_response() {
        let port = tcp_server(V4, async |mut stream| {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nA: ").await.unwrap();
            while stream.write_all(&[b'x'; 1000]).await.is_ok() {}
        })
        .await;
        let words = "no HTTP: message head is too large";
        assert_eq!(outcome(V4, get(port)).await, answer(words));
    }

    #[rstest]
    #[case::before_the_response("")]
    #[case::in_the_body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")]
    #[tokio::test]
    async fn a_reset_is_told(#[case] response: &'static str) {
        let port = tcp_server(V4, async move |mut stream| {
            read_request(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
            stream.set_zero_linger().unwrap();
        })
        .await;
        assert_eq!(outcome(V4, with_ok(port)).await, answer("connection reset"));
    }

    #[rstest]
    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses(#[values(V4, V6)] address: IpAddr) {
        let (port, _socket) = closed_tcp_port(address);
        assert_eq!(outcome(address, get(port)).await, Err(Failure::Refused));
    }

    #[tokio::test]
    async fn a_port_where_nobody_answers_is_silent() {
        let (port, _sockets) = silent_tcp_port().await;
        let expected = Err(Failure::Silence("SYN-ACK"));
        assert_eq!(outcome(V4, get(port)).await, expected);
    }

    #[tokio::test]
    async fn a_request_says_what_is_asked() {
        let (sender, request) = tokio::sync::oneshot::channel();
        let port = tcp_server(V4, async move |mut stream| {
            let request = read_request(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            sender.send(request).unwrap();
        })
        .await;
        let asked = HttpCheck {
            method: config::Method::Head,
            path: "/health?full=1".to_owned(),
            host: Some("shop.example".to_owned()),
            headers: [("X-One", "1"), ("X-One", "2"), ("user-agent", "me")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..get(port)
        };
        assert_eq!(outcome(V4, asked).await, Ok(()));
        let expected = "HEAD /health?full=1 HTTP/1.1\r\nhost: shop.example\r\nx-one: 1\r\nx-one: 2\r\n\
                        user-agent: me\r\nconnection: close\r\n\r\n";
        assert_eq!(request.await.unwrap(), expected);
    }

    #[rstest]
    #[case::http("10.9.1.1", 80, false, "10.9.1.1")]
    #[case::https("10.9.1.1", 443, true, "10.9.1.1")]
    #[case::another_port("10.9.1.1", 443, false, "10.9.1.1:443")]
    #[case::http_v6("fd00::1", 80, false, "[fd00::1]")]
    #[case::another_port_v6("fd00::1", 80, true, "[fd00::1]:80")]
    fn without_a_host_the_address_is_asked_for(
        #[case] address: &str,
        #[case] port: u16,
        #[case] tls: bool,
        #[case] host: &str,
    ) {
        let asked = HttpCheck {
            tls: tls.then_some(ANY_CERTIFICATE),
            ..get(port)
        };
        let request = request(&asked, address.parse().unwrap()).unwrap();
        assert_eq!(request.headers()[HOST], host);
        assert_eq!(request.headers()[USER_AGENT], "lb-health");
    }

    const ANY_CERTIFICATE: Tls = Tls {
        server_name: None,
        verify: false,
    };

    #[rstest]
    #[case::none(None, None, "10.9.1.1")]
    #[case::host(None, Some("shop.example"), "shop.example")]
    #[case::host_and_port(None, Some("shop.example:8443"), "shop.example")]
    #[case::address(None, Some("10.9.0.1"), "10.9.1.1")]
    #[case::address_v6(None, Some("[fd00::1]:8443"), "10.9.1.1")]
    #[case::its_own(Some("api.example"), Some("shop.example"), "api.example")]
    #[case::its_own_address(Some("10.9.0.1"), Some("shop.example"), "10.9.0.1")]
    fn tls_asks_for_a_name(
        #[case] server_name: Option<&str>,
        #[case] host: Option<&str>,
        #[case] expected: &str,
    ) {
        let tls = Tls {
            server_name: server_name.map(str::to_owned),
            ..ANY_CERTIFICATE
        };
        let name = super::server_name(&tls, host, [10, 9, 1, 1].into());
        assert_eq!(name, ServerName::try_from(expected).unwrap());
    }

    /// Where a request gets this as its response, over TLS; then the connection is closed, without a word of TLS.
    async fn answering_over_tls(response: &'static str) -> u16 {
        let identity = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let certificates = vec![identity.cert.der().clone()];
        let config = builder
            .with_no_client_auth()
            .with_single_cert(certificates, identity.signing_key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tcp_server(V4, async move |stream| {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            read_request(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        })
        .await
    }

    #[rstest]
    #[case::any_certificate(false, OK, Ok(()))]
    #[case::a_valid_certificate(true, OK, answer("TLS: unknown issuer"))]
    #[case::no_response(false, "", answer("connection closed before a response"))]
    #[case::half_a_response(
        false,
        "HTTP/1.1 200 OK\r\n\r\nok",
        answer("connection closed in the middle of a response")
    )]
    #[case::other_status(
        false,
        "HTTP/1.1 503 Busy\r\n\r\n",
        answer("status 503 (expected 200-399)")
    )]
    #[tokio::test]
    async fn a_request_is_sent_over_tls(
        #[case] verify: bool,
        #[case] response: &'static str,
        #[case] expected: Result<(), Failure>,
    ) {
        let tls = Tls {
            verify,
            ..ANY_CERTIFICATE
        };
        let asked = HttpCheck {
            tls: Some(tls),
            ..with_ok(answering_over_tls(response).await)
        };
        assert_eq!(outcome(V4, asked).await, expected);
    }
}

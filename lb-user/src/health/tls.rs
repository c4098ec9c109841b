//! TLS 1.3 (RFC 8446) and 1.2 (RFC 5246).

use std::{
    io::ErrorKind,
    sync::{Arc, LazyLock},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error,
    RootCertStore, SignatureScheme, WantsVerifier,
    client::{
        Resumption, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::warn;

use super::Failure;

/// For certificates that must be valid.
static VERIFYING: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        warn!("can't load certificates of authorities: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    verifying(roots)
});

/// For certificates that may be any.
static TRUSTING: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    config(|builder| {
        let provider = Arc::clone(builder.crypto_provider());
        let verifier = Arc::new(AnyCertificate(provider));
        let builder = builder.dangerous();
        builder.with_custom_certificate_verifier(verifier)
    })
});

/// Speaks TLS on a connection.
///
/// `name` is what is asked for, unless it is an address (RFC 6066 section 3); if `verify`, the certificate must be for
/// it, and valid.
pub(super) async fn handshake(
    stream: TcpStream,
    name: ServerName<'static>,
    verify: bool,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = if verify { &VERIFYING } else { &TRUSTING };
    handshake_by(config, stream, name).await
}

async fn handshake_by(
    config: &Arc<ClientConfig>,
    stream: TcpStream,
    name: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, Failure> {
    let connector = TlsConnector::from(Arc::clone(config));
    let connected = connector.connect(name, stream).await;
    connected.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => {
            Failure::Answer("connection closed in the TLS handshake".to_owned())
        }
        _ => error.into(),
    })
}

fn verifying(roots: RootCertStore) -> Arc<ClientConfig> {
    config(|builder| builder.with_root_certificates(roots))
}

fn config(
    verifier: impl FnOnce(
        ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> ConfigBuilder<ClientConfig, WantsClientCert>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has ciphers for TLS 1.2 and 1.3");
    let mut config = verifier(builder).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Who resumes a session sees no certificate.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// What a person would say of an error.
pub(super) fn words(error: &Error) -> String {
    let words = match error {
        Error::InvalidMessage(_) => return "no TLS".to_owned(),
        Error::NoCertificatesPresented => "no certificate",
        Error::AlertReceived(AlertDescription::HandshakeFailure) => "handshake failure",
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "certificate expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "certificate is not valid yet"
            }
            CertificateError::NotValidForNameContext { expected, .. } => {
                let name = expected.to_str();
                &format!("certificate is not valid for name {name}")
            }
            CertificateError::UnknownIssuer => "unknown issuer",
            CertificateError::BadSignature => "wrong signature",
            _ => &error.to_string(),
        },
        _ => &error.to_string(),
    };
    format!("TLS: {words}")
}

/// Accepts every certificate; but the server must have its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rcgen::{
        CertificateParams, CertifiedIssuer, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd,
    };
    use rstest::rstest;
    use rustls::{
        ServerConfig, SupportedProtocolVersion,
        pki_types::PrivateKeyDer,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
        version::{TLS12, TLS13},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::health::test_servers::{V4, V6, outcome_of, tcp_server};

    /// An authority that is trusted.
    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            Self(CertifiedIssuer::self_signed(params, key).unwrap())
        }

        fn issue(&self, params: CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
            params.signed_by(key, &self.0).unwrap().der().clone()
        }

        fn clients_config(&self) -> Arc<ClientConfig> {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            verifying(roots)
        }
    }

    /// For this host, valid for long.
    fn certificate() -> CertificateParams {
        let names = ["shop.example", "127.0.0.1", "::1"].map(str::to_owned);
        CertificateParams::new(names).unwrap()
    }

    /// A server with a certificate and a key, which need not fit.
    #[derive(Debug)]
    struct Identity(Arc<CertifiedKey>);

    impl Identity {
        fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let key = ring::sign::any_supported_type(&key).unwrap();
            Self(Arc::new(CertifiedKey::new(vec![certificate], key)))
        }
    }

    impl ResolvesServerCert for Identity {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    /// Where a client gets a byte, and it is told which name and protocol it has asked for.
    async fn server(
        address: IpAddr,
        identity: Identity,
        versions: &[&'static SupportedProtocolVersion],
    ) -> (u16, oneshot::Receiver<(Option<String>, Option<Vec<u8>>)>) {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = builder.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(identity));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, asked) = oneshot::channel();
        let port = tcp_server(address, async move |stream| {
            // Who doesn't like the certificate goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let (_, session) = stream.get_ref();
            let name = session.server_name().map(str::to_owned);
            let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
            sender.send((name, protocol)).unwrap();
            let _ = stream.write_u8(0).await;
        })
        .await;
        (port, asked)
    }

    async fn outcome(
        config: &Arc<ClientConfig>,
        address: IpAddr,
        port: u16,
        name: &'static str,
    ) -> Result<(), Failure> {
        outcome_of(address, async |destination, awaited| {
            awaited.set("TLS handshake");
            let stream = destination.connect(port).await?;
            let name = ServerName::try_from(name).unwrap();
            let mut stream = handshake_by(config, stream, name).await?;
            stream.read_u8().await?;
            Ok(())
        })
        .await
    }

    fn answer(words: &str) -> Result<(), Failure> {
        Err(Failure::Answer(words.to_owned()))
    }

    #[rstest]
    #[case::name("shop.example", Some("shop.example"))]
    #[case::address("127.0.0.1", None)]
    #[case::address_v6("::1", None)]
    #[tokio::test]
    async fn a_valid_certificate_passes(
        #[values(V4, V6)] address: IpAddr,
        #[values(&TLS12, &TLS13)] version: &'static SupportedProtocolVersion,
        #[case] name: &'static str,
        #[case] asked_for: Option<&str>,
    ) {
        let (authority, key) = (Authority::new(), KeyPair::generate().unwrap());
        let certificate = authority.issue(certificate(), &key);
        let identity = Identity::new(certificate, &key);
        let (port, asked) = server(address, identity, &[version]).await;
        let config = authority.clients_config();
        assert_eq!(outcome(&config, address, port, name).await, Ok(()));
        let (name, protocol) = asked.await.unwrap();
        assert_eq!(name.as_deref(), asked_for);
        assert_eq!(protocol.as_deref(), Some(b"http/1.1".as_slice()));
    }

    fn expired() -> CertificateParams {
        let mut params = certificate();
        params.not_after = date_time_ymd(2001, 1, 1);
        params
    }

    fn of_the_future() -> CertificateParams {
        let mut params = certificate();
        params.not_before = date_time_ymd(3000, 1, 1);
        params
    }

    #[rstest]
    #[case::expired(expired(), "shop.example", "TLS: certificate expired")]
    #[case::future(of_the_future(), "shop.example", "TLS: certificate is not valid yet")]
    #[case::name(
        certificate(),
        "api.example",
        "TLS: certificate is not valid for name api.example"
    )]
    #[case::address(
        certificate(),
        "127.0.0.2",
        "TLS: certificate is not valid for name 127.0.0.2"
    )]
    #[tokio::test]
    async fn a_certificate_that_is_not_valid_matters_if_it_is_verified(
        #[values(&TLS12, &TLS13)] version: &'static SupportedProtocolVersion,
        #[case] certificate: CertificateParams,
        #[case] name: &'static str,
        #[case] words: &str,
    ) {
        let (authority, key) = (Authority::new(), KeyPair::generate().unwrap());
        let certificate = authority.issue(certificate, &key);
        for (config, expected) in [
            (&authority.clients_config(), answer(words)),
            (&*TRUSTING, Ok(())),
        ] {
            let identity = Identity::new(certificate.clone(), &key);
            let (port, _asked) = server(V4, identity, &[version]).await;
            assert_eq!(outcome(config, V4, port, name).await, expected);
        }
    }

    #[rstest]
    #[case::verified(&VERIFYING, answer("TLS: unknown issuer"))]
    #[case::not_verified(&TRUSTING, Ok(()))]
    #[tokio::test]
    async fn a_self_signed_certificate_has_no_known_issuer(
        #[case] config: &Arc<ClientConfig>,
        #[case] expected: Result<(), Failure>,
    ) {
        let key = KeyPair::generate().unwrap();
        let certificate = certificate().self_signed(&key).unwrap();
        let identity = Identity::new(certificate.der().clone(), &key);
        let (port, _asked) = server(V4, identity, &[&TLS13]).await;
        assert_eq!(outcome(config, V4, port, "shop.example").await, expected);
    }

    #[rstest]
    #[tokio::test]
    async fn a_certificate_of_another_does_not_pass_even_if_it_is_not_verified(
        #[values(&TLS12, &TLS13)] version: &'static SupportedProtocolVersion,
    ) {
        let generate = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = certificate().self_signed(&generate()).unwrap();
        let identity = Identity::new(certificate.der().clone(), &generate());
        let (port, _asked) = server(V4, identity, &[version]).await;
        let outcome = outcome(&TRUSTING, V4, port, "shop.example").await;
        let words = "TLS: wrong signature";
        assert_eq!(outcome, answer(words));
    }

    #[rstest]
    #[case::alert(b"\x15\x03\x03\0\x02\x02\x28", "TLS: handshake failure")]
    #[case::other_alert(
        b"\x15\x03\x03\0\x02\x02\x70",
        "TLS: received fatal alert: UnrecognisedName"
    )]
    #[case::http(b"HTTP/1.1 400 Bad Request\r\n\r\n", "no TLS")]
    #[case::nothing(b"", "connection closed in the TLS handshake")]
    #[tokio::test]
    async fn what_is_no_handshake_is_explained(#[case] bytes: &'static [u8], #[case] words: &str) {
        let port = tcp_server(V4, async move |mut stream| {
            let _hello = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        })
        .await;
        let outcome = outcome(&TRUSTING, V4, port, "shop.example").await;
        assert_eq!(outcome, answer(words));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_silent() {
        let port = tcp_server(V4, async |_stream| std::future::pending().await).await;
        let outcome = outcome(&TRUSTING, V4, port, "shop.example").await;
        assert_eq!(outcome, Err(Failure::Silence("TLS handshake")));
    }
}

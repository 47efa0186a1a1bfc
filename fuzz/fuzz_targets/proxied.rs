//! The header of the PROXY protocol: whoever claims an address has sent a header that names it.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/seawall-gateway/src/proxy/greeting.rs"]
mod greeting;

/// Stands in for the gateway's own: no connection is made here.
mod tls {
    use std::sync::Arc;

    use tokio_rustls::rustls::ServerConfig;

    #[derive(Debug)]
    pub(crate) struct Certificates;

    impl Certificates {
        pub(crate) fn server(&self) -> Arc<ServerConfig> {
            unreachable!("only headers are read")
        }
    }
}

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut reading = pin!(greeting::proxied(&mut rest));
    // All bytes are there: it never has to wait.
    let Poll::Ready(read) = reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for bytes that never come");
    };
    if let Ok(Some(address)) = read {
        assert!(bytes.starts_with(b"PROXY TCP") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{address}");
    }
});

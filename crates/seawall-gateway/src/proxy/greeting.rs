//! What comes before the first request on a connection: the PROXY protocol's header, and TLS.
//!
//! **Edges.** Whether a header comes is a setting of the listener, never guessed: where it is expected and
//! does not come, or makes no sense, the connection is closed. `LOCAL` and `UNKNOWN` leave the
//! address as it is, and nothing that such a client says of others is believed. Nor is anything where the
//! address in the header is trusted and the peer who wrote it is not. A client has the time of a head for all
//! of this.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ProtocolVersion;
use tokio_rustls::server::TlsStream;

use crate::tls::Certificates;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const LINE_MAX: usize = 107;
/// The longest part behind the head of version 2 that is read: addresses and some extensions.
const PART_MAX: usize = 4_096;
/// How long the name of a socket of this machine is in version 2.
const UNIX: usize = 108;

/// In the extensions of a request that came over TLS: its version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secure(pub(super) &'static str);

/// The client that a header of the PROXY protocol names, if it names one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named(pub(super) Option<SocketAddr>);

/// What a listener expects before the first request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Greeting {
    /// TLS.
    pub(crate) tls: Option<Arc<Certificates>>,
    /// A header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
}

impl Greeting {
    /// Lets the connection begin; says whom its peer speaks for, if it speaks for others.
    pub(super) async fn take(&self, mut stream: TcpStream) -> io::Result<(Stream, Option<Named>)> {
        let named = if self.proxy_protocol { Some(Named(proxied(&mut stream).await?)) } else { None };
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => Stream::Tls(Box::new(TlsAcceptor::from(tls.server()).accept(stream).await?)),
        };
        Ok((stream, named))
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

/// The address that the header names, if it names one.
pub(super) async fn proxied(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    if &head != SIGNATURE {
        let mut line = head.to_vec();
        // Byte by byte: what follows belongs to the first request.
        while !line.ends_with(b"\r\n") {
            if line.len() >= LINE_MAX || line.contains(&b'\n') {
                return Err(nonsense());
            }
            line.push(stream.read_u8().await?);
        }
        return line_of(&line[..line.len() - 2]).ok_or_else(nonsense);
    }
    let (version, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if version >> 4 != 2 || length > PART_MAX {
        return Err(nonsense());
    }
    let mut part = vec![0; length];
    stream.read_exact(&mut part).await?;
    match version & 0xf {
        0 => Ok(None),
        1 => addresses(family, &part),
        _ => Err(nonsense()),
    }
}

/// The source in a line of version 1; `None` when it makes no sense.
fn line_of(line: &[u8]) -> Option<Option<SocketAddr>> {
    let mut words = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, target): (IpAddr, IpAddr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    let fits = match family {
        "TCP4" => source.is_ipv4() && target.is_ipv4(),
        "TCP6" => source.is_ipv6() && target.is_ipv6(),
        _ => false,
    };
    (fits && words.next().is_none()).then_some(Some(SocketAddr::new(source, port)))
}

/// A port as version 1 writes it: without a sign, and without zeros that could make it octal.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain { word.parse().ok() } else { None }
}

/// The source in the addresses of version 2: two of them and then their ports, for a stream or for datagrams.
fn addresses(family: u8, part: &[u8]) -> io::Result<Option<SocketAddr>> {
    if family & 0xf > 2 {
        return Err(nonsense());
    }
    let source = match family >> 4 {
        1 => part.first_chunk::<12>().map(|part| {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *part;
            (IpAddr::from([a, b, c, d]), [high, low])
        }),
        2 => part.first_chunk::<36>().and_then(|part| {
            let (ip, rest) = part.split_first_chunk::<16>()?;
            Some((IpAddr::from(*ip), [rest[16], rest[17]]))
        }),
        // Sockets of one machine, and what is not specified, have no address that could be used.
        0 => return Ok(None),
        3 if part.len() >= 2 * UNIX => return Ok(None),
        _ => None,
    };
    source.map(|(ip, port)| Some(SocketAddr::new(ip, u16::from_be_bytes(port)))).ok_or_else(nonsense)
}

/// A client's socket.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket beneath.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether nobody on the way can read along.
    pub(super) fn secure(&self) -> Option<Secure> {
        let Stream::Tls(stream) = self else { return None };
        match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Some(Secure("1.2")),
            _ => Some(Secure("1.3")),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<(Option<String>, usize), ()> {
        let mut rest = bytes;
        let address = proxied(&mut rest).await.map_err(drop)?;
        Ok((address.map(|address| address.to_string()), rest.len()))
    }

    #[tokio::test]
    async fn both_versions_are_read_and_not_a_byte_more() {
        let of = |text: &str| Ok((Some(text.to_owned()), 3));
        assert_eq!(read(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nGET").await, of("192.0.2.1:5000"));
        assert_eq!(read(b"PROXY TCP6 2001:db8::1 ::1 5000 80\r\nGET").await, of("[2001:db8::1]:5000"));
        assert_eq!(read(b"PROXY UNKNOWN\r\nGET").await, Ok((None, 3)));
        let v2 = |command: u8, family: u8, part: &[u8]| {
            [&SIGNATURE[..], &[0x20 | command, family, 0, part.len() as u8], part, b"GET"].concat()
        };
        assert_eq!(
            read(&v2(1, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80])).await,
            of("192.0.2.1:5000")
        );
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0x13, 0x88, 0, 80]].concat();
        assert_eq!(read(&v2(1, 0x21, &six)).await, of("[2001:db8::1]:5000"));
        assert_eq!(read(&v2(0, 0, &[])).await, Ok((None, 3)));
        assert_eq!(read(&v2(1, 0x31, &[0; 216])).await, Ok((None, 3)));
        let wrong = [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PROXY TCP4 2001:db8::1 ::1 5000 80\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 70000 80\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +5000 80\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 080\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 \r\n",
            &v2(1, 0x11, &[192, 0, 2, 1]),
            &v2(1, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0]),
            &v2(1, 0x21, &six[..35]),
            &v2(1, 0x31, &[0; 215]),
            &v2(1, 0x41, &[0; 216]),
            &v2(1, 0x13, &[0; 12]),
            &v2(5, 0x11, &[0; 12]),
            &[b'P'; 200],
        ];
        for wrong in wrong {
            assert!(read(wrong).await.is_err(), "{wrong:?}");
        }
    }
}

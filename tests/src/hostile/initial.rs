//! First packets of handshakes that nobody will go on with.
//!
//! A server tells connections apart by the identifier that the client has
//! chosen, and the keys of the first packet are made of it. So one packet of a
//! real client is taken, opened, and sealed again for each new identifier:
//! thousands of handshakes for the price of a few hashes each.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustls::Side;
use rustls::quic::{DirectionalKeys, Suite, Version};

use crate::random::Random;

const SAMPLE_AT: usize = 4;
const SAMPLE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// What one client said first.
pub struct Initial {
    suite: Suite,
    /// Of the destination's identifier; the packet keeps its size with it.
    id_bytes: usize,
    source: Vec<u8>,
    payload: Vec<u8>,
}

impl Initial {
    /// Lets a client dial a socket that does not answer, and keeps what
    /// comes. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When nothing comes, or nothing that can be opened.
    pub async fn capture(config: quinn::ClientConfig) -> Result<Initial, String> {
        let text = |error: std::io::Error| error.to_string();
        let local: SocketAddr = ([127, 0, 0, 1], 0).into();
        let deaf = tokio::net::UdpSocket::bind(local).await.map_err(text)?;
        let client = quinn::Endpoint::client(local).map_err(text)?;
        let addr = deaf.local_addr().map_err(text)?;
        let _connecting =
            client.connect_with(config, addr, "localhost").map_err(|error| error.to_string())?;
        let mut packet = vec![0; 2048];
        let received = tokio::time::timeout(Duration::from_secs(5), deaf.recv(&mut packet)).await;
        let length = received.map_err(|_| "the client says nothing")?.map_err(text)?;
        packet.truncate(length);
        Self::open(packet).ok_or_else(|| "not a first packet of a handshake".to_owned())
    }

    fn open(mut packet: Vec<u8>) -> Option<Initial> {
        let tls = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
        let suite = tls.quic_suite()?;
        let (destination, rest) = split(packet.get(5..)?)?;
        let (source, rest) = split(rest)?;
        let (token, rest) = varint(rest)?;
        let (length, rest) = varint(rest.get(token as usize..)?)?;
        let at = packet.len() - rest.len();
        let (destination, source) = (destination.to_vec(), source.to_vec());
        let keys = client_keys(&suite, &destination);

        let (header, body) = packet.split_at_mut(at);
        let sample = body.get(SAMPLE_AT..SAMPLE_AT + SAMPLE_BYTES)?.to_vec();
        let (first, number) = (header.first_mut()?, body.get_mut(..4)?);
        keys.header.decrypt_in_place(&sample, first, number).ok()?;
        let number_bytes = usize::from(*first & 3) + 1;
        let number = number[..number_bytes].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let (header, body) = packet.split_at_mut(at + number_bytes);
        let body = body.get_mut(..(length as usize).checked_sub(number_bytes)?)?;
        let payload = keys.packet.decrypt_in_place(number, header, body).ok()?.to_vec();
        Some(Initial { suite, id_bytes: destination.len(), source, payload })
    }

    /// The same words under an identifier of their own.
    pub fn forge(&self, random: &mut Random) -> Vec<u8> {
        let destination: Vec<u8> = (0..self.id_bytes).map(|_| random.number() as u8).collect();
        let mut packet = vec![0xc3];
        packet.extend([0, 0, 0, 1]);
        packet.push(self.id_bytes as u8);
        packet.extend(&destination);
        packet.push(self.source.len() as u8);
        packet.extend(&self.source);
        packet.push(0);
        let length = 4 + self.payload.len() + TAG_BYTES;
        packet.extend((length as u16 | 0x4000).to_be_bytes());
        packet.extend([0; 4]);
        let at = packet.len();
        packet.extend(&self.payload);
        let keys = client_keys(&self.suite, &destination);
        let (header, body) = packet.split_at_mut(at);
        let tag = keys.packet.encrypt_in_place(0, header, body).expect("the first packet of a key");
        packet.extend(tag.as_ref());
        let (header, body) = packet.split_at_mut(at);
        let (front, number) = header.split_at_mut(at - 4);
        let sample = &body[..SAMPLE_BYTES];
        keys.header.encrypt_in_place(sample, &mut front[0], number).expect("a sample of the right size");
        packet
    }
}

/// Keys of what a client sends first; of the server they would be `remote`.
fn client_keys(suite: &Suite, destination: &[u8]) -> DirectionalKeys {
    suite.keys(destination, Side::Client, Version::V1).local
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = 1 << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    let value = number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & ((1 << (length * 8 - 2)) - 1), rest))
}

/// What a flood has cost both sides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flooded {
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// Sends forged packets from many sockets, `rate` a second, and counts what
/// comes back. Without a rate the test would measure how fast this machine
/// copies packets, most of which the kernel would drop.
///
/// # Errors
///
/// When there are no sockets.
pub async fn flood(
    initial: &Initial,
    addr: SocketAddr,
    count: u32,
    rate: u32,
    random: &mut Random,
) -> std::io::Result<Flooded> {
    const SOCKETS: u64 = 32;
    const BURST: u32 = 8;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_nonblocking(true)?;
        sockets.push(tokio::net::UdpSocket::from_std(socket)?);
    }
    let mut flooded = Flooded::default();
    let mut answer = [0; 2048];
    let began = tokio::time::Instant::now();
    for index in 0..count {
        if index % BURST == 0 {
            tokio::time::sleep_until(began + Duration::from_secs(1) * index / rate).await;
        }
        let socket = &sockets[random.between(0, SOCKETS) as usize];
        flooded.sent_bytes += socket.send_to(&initial.forge(random), addr).await? as u64;
        while let Ok(bytes) = socket.try_recv(&mut answer) {
            flooded.received_bytes += bytes as u64;
        }
    }
    for socket in &sockets {
        while let Ok(bytes) = socket.try_recv(&mut answer) {
            flooded.received_bytes += bytes as u64;
        }
    }
    Ok(flooded)
}

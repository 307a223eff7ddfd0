//! A gateway that had to fall back to TCP, and moves when UDP gets through.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lm_mesh::MeshLimits;
use lm_schema::query_capnp::ResultType;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::{Said, World};

/// Longer than the ten seconds that a live tail's call may take.
const WITHIN: Duration = Duration::from_secs(25);

/// Stands between gateway and collector, and lets UDP through when it is told
/// to.
pub struct Relay {
    pub addr: SocketAddr,
    pub collector: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    async fn new() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay { addr: listener.local_addr().unwrap(), collector: Arc::default() };
        let collector = relay.collector.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let to = collector.lock().unwrap().expect("the collector listens before the gateway dials");
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        relay
    }

    /// There is one gateway, with one socket.
    async fn open_udp(&self) {
        let gateway = UdpSocket::bind(self.addr).await.unwrap();
        let collector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = self.collector.lock().unwrap().unwrap();
        collector.connect(to).await.unwrap();
        tokio::spawn(async move {
            let (mut there, mut back) = ([0; 65_536], [0; 65_536]);
            let mut peer = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = gateway.recv_from(&mut there) => {
                        peer = Some(from);
                        let _ = collector.send(&there[..length]).await;
                    }
                    Ok(length) = collector.recv(&mut back) => {
                        if let Some(peer) = peer {
                            let _ = gateway.send_to(&back[..length], peer).await;
                        }
                    }
                    else => return,
                }
            }
        });
    }
}

#[tokio::test]
async fn moving_back_to_quic_breaks_nothing() {
    let relay = Relay::new().await;
    let world = World::behind("retry_quic_after = \"1s\"\n", MeshLimits::default(), Some(&relay)).await;
    let row = (vec![("a", "1")], vec![(1_000, 1.0)], false);
    world.script.say("up", Said::Rows(ResultType::Vector, vec![vec![row]], vec![]));
    let transports =
        || -> Vec<_> { world.registry.sessions().iter().map(|session| session.path().transport).collect() };
    assert_eq!(transports(), ["tcp"]);
    let mut live = world.live("", "").await;
    assert_eq!(live.event().await.unwrap(), "retry: 1000\n");

    relay.open_udp().await;
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut number = 0;
    // Until the old session is gone too: queries and the tail notice nothing.
    while transports() != ["quic"] {
        assert!(tokio::time::Instant::now() < deadline, "the sessions are over {:?}", transports());
        let answer = world.get("/api/v1/query?query=up&time=1").await;
        assert_eq!(answer.status, 200, "over {:?}: {}", transports(), answer.text());
        number += 1;
        world.script.publish([(number, format!("line {number}"))]);
        let event = live.event().await.expect("the live tail goes on");
        assert!(event.contains(&format!("\"line {number}\"")), "{event}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    number += 1;
    world.script.publish([(number, "over QUIC".to_owned())]);
    assert!(live.event().await.unwrap().contains("over QUIC"));
}

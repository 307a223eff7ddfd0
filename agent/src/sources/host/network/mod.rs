//! Network devices and protocols.

pub mod arp;
pub mod conntrack;
pub mod ipvs;
pub mod lnstat;
pub mod netdev;
pub mod netstat;
pub mod sockets;
pub mod sockstat;
pub mod softnet;
pub mod tcpstat;
pub mod udp_queues;
pub mod xfrm;

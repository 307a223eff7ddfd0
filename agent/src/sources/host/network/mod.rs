//! Network devices and protocols.

pub mod arp;
pub mod bonding;
pub mod conntrack;
pub mod fibre_channel;
pub mod infiniband;
pub mod ipvs;
pub mod lnstat;
pub mod net_class;
pub mod netdev;
pub mod netstat;
pub mod sockets;
pub mod sockstat;
pub mod softnet;
pub mod tcpstat;
pub mod udp_queues;
pub mod xfrm;

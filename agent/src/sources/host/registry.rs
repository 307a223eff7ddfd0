//! Every collector: a new one is a line here.

use super::collector::Collect;
use super::options::HostOptions;
use super::{cpu, disk, kernel, memory, network};

/// A collector, by node_exporter's name for it.
pub struct KnownCollector {
    pub name: &'static str,
    /// Whether it runs unless the settings say otherwise, as in node_exporter.
    pub is_default: bool,
    pub(super) make: fn(&HostOptions) -> Box<dyn Collect>,
}

/// In the order in which they run: those that every host needs come first,
/// since the table of series may fill up.
pub const COLLECTORS: &[KnownCollector] = &[
    on("stat", |options| Box::new(cpu::stat::Stat::new(options))),
    on("cpu", |options| Box::new(cpu::time::Cpu::new(options))),
    on("loadavg", |options| Box::new(kernel::loadavg::LoadAverage::new(options))),
    on("meminfo", |options| Box::new(memory::meminfo::MemInfo::new(options))),
    on("time", |options| Box::new(kernel::time::Time::new(options))),
    on("uname", |_| Box::<kernel::uname::Uname>::default()),
    on("process", |options| Box::new(kernel::own_process::OwnProcess::new(options))),
    on("filefd", |options| Box::new(kernel::filefd::FileDescriptors::new(options))),
    on("vmstat", |options| Box::new(memory::vmstat::VmStat::new(options))),
    on("pressure", |options| Box::new(kernel::pressure::Pressure::new(options))),
    on("filesystem", |options| Box::new(disk::filesystem::FileSystems::new(options))),
    on("diskstats", |options| Box::new(disk::diskstats::DiskStats::new(options))),
    on("netdev", |options| Box::new(network::netdev::NetDev::new(options))),
    on("netstat", |options| Box::new(network::netstat::NetStat::new(options))),
    on("sockstat", |options| Box::new(network::sockstat::SockStat::new(options))),
    on("schedstat", |options| Box::new(cpu::schedstat::SchedStat::new(options))),
    on("softnet", |options| Box::new(network::softnet::SoftNet::new(options))),
    on("conntrack", |options| Box::new(network::conntrack::ConnTrack::new(options))),
    on("entropy", |options| Box::new(kernel::entropy::Entropy::new(options))),
    on("arp", |options| Box::new(network::arp::Arp::new(options))),
    on("udp_queues", |options| Box::new(network::udp_queues::UdpQueues::new(options))),
    on("kernel_hung", |options| Box::new(kernel::hung::HungTasks::new(options))),
    on("ipvs", |options| Box::new(network::ipvs::Ipvs::new(options))),
    on("nfs", |options| Box::new(disk::nfs::Nfs::new(options))),
    on("nfsd", |options| Box::new(disk::nfsd::Nfsd::new(options))),
    off("buddyinfo", |options| Box::new(memory::buddyinfo::BuddyInfo::new(options))),
    off("cgroups", |options| Box::new(kernel::cgroups::ControlGroups::new(options))),
    off("interrupts", |options| Box::new(cpu::interrupts::Interrupts::new(options))),
    off("ksmd", |options| Box::new(memory::ksmd::Ksmd::new(options))),
    off("lnstat", |options| Box::new(network::lnstat::LnStat::new(options))),
    off("meminfo_numa", |options| Box::new(memory::numa::NumaMemory::new(options))),
    off("processes", |options| Box::new(kernel::processes::Processes::new(options))),
    off("slabinfo", |options| Box::new(memory::slabinfo::SlabInfo::new(options))),
    off("softirqs", |options| Box::new(cpu::softirqs::SoftIrqs::new(options))),
    off("sysctl", |options| Box::new(kernel::sysctl::Sysctl::new(options))),
    off("tcpstat", |options| Box::new(network::tcpstat::TcpStat::new(options))),
    off("xfrm", |options| Box::new(network::xfrm::Xfrm::new(options))),
    off("zoneinfo", |options| Box::new(memory::zoneinfo::ZoneInfo::new(options))),
];

const fn on(name: &'static str, make: fn(&HostOptions) -> Box<dyn Collect>) -> KnownCollector {
    KnownCollector { name, is_default: true, make }
}

const fn off(name: &'static str, make: fn(&HostOptions) -> Box<dyn Collect>) -> KnownCollector {
    KnownCollector { name, is_default: false, make }
}

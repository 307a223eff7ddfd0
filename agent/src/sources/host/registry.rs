//! Every collector: a new one is a line here.

use super::collector::Collect;
use super::options::HostOptions;
use super::{cpu, disk, hardware, kernel, memory, network, services, textfile};

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
    on("netclass", |options| Box::new(network::net_class::NetClass::new(options))),
    on("hwmon", |options| Box::new(hardware::hwmon::Hwmon::new(options))),
    on("thermal_zone", |options| Box::new(hardware::thermal::ThermalZones::new(options))),
    on("powersupplyclass", |options| Box::new(hardware::power_supply::PowerSupplies::new(options))),
    on("cpufreq", |options| Box::new(cpu::frequency::CpuFrequencies::new(options))),
    on("os", |options| Box::new(kernel::os_release::OsRelease::new(options))),
    on("dmi", |options| Box::new(hardware::dmi::Dmi::new(options))),
    on("edac", |options| Box::new(hardware::edac::MemoryErrors::new(options))),
    on("rapl", |options| Box::new(hardware::rapl::Rapl::new(options))),
    on("watchdog", |options| Box::new(hardware::watchdog::Watchdogs::new(options))),
    on("bonding", |options| Box::new(network::bonding::Bonding::new(options))),
    on("fibrechannel", |options| Box::new(network::fibre_channel::FibreChannel::new(options))),
    on("infiniband", |options| Box::new(network::infiniband::InfiniBand::new(options))),
    on("mdadm", |options| Box::new(disk::md_raid::MdRaid::new(options))),
    on("nvme", |options| Box::new(disk::nvme::Nvme::new(options))),
    on("dmmultipath", |options| Box::new(disk::dm_multipath::DmMultipath::new(options))),
    on("tapestats", |options| Box::new(disk::tape::Tapes::new(options))),
    on("bcache", |options| Box::new(disk::bcache::Bcache::new(options))),
    on("bcachefs", |options| Box::new(disk::bcachefs::Bcachefs::new(options))),
    on("btrfs", |options| Box::new(disk::btrfs::Btrfs::new(options))),
    on("xfs", |options| Box::new(disk::xfs::Xfs::new(options))),
    on("zfs", |options| Box::new(disk::zfs::Zfs::new(options))),
    off("cpu_vulnerabilities", |options| Box::new(cpu::vulnerabilities::CpuVulnerabilities::new(options))),
    off("drbd", |options| Box::new(disk::drbd::Drbd::new(options))),
    off("drm", |options| Box::new(hardware::drm::Drm::new(options))),
    off("containers", |options| Box::new(services::containers::Containers::new(options))),
    off("programs", |options| Box::new(services::programs::Programs::new(options))),
    off("systemd", |options| Box::new(services::systemd::Systemd::new(options))),
    off("pcidevice", |options| Box::new(hardware::pci::PciDevices::new(options))),
    on("netstat", |options| Box::new(network::netstat::NetStat::new(options))),
    on("sockstat", |options| Box::new(network::sockstat::SockStat::new(options))),
    on("schedstat", |options| Box::new(cpu::schedstat::SchedStat::new(options))),
    on("softnet", |options| Box::new(network::softnet::SoftNet::new(options))),
    on("conntrack", |options| Box::new(network::conntrack::ConnTrack::new(options))),
    on("entropy", |options| Box::new(kernel::entropy::Entropy::new(options))),
    on("arp", |options| Box::new(network::arp::Arp::new(options))),
    on("timex", |options| Box::new(kernel::timex::ClockDiscipline::new(options))),
    on("udp_queues", |options| Box::new(network::udp_queues::UdpQueues::new(options))),
    on("kernel_hung", |options| Box::new(kernel::hung::HungTasks::new(options))),
    on("selinux", |options| Box::new(kernel::selinux::Selinux::new(options))),
    on("ipvs", |options| Box::new(network::ipvs::Ipvs::new(options))),
    on("nfs", |options| Box::new(disk::nfs::Nfs::new(options))),
    on("nfsd", |options| Box::new(disk::nfsd::Nfsd::new(options))),
    off("buddyinfo", |options| Box::new(memory::buddyinfo::BuddyInfo::new(options))),
    off("cgroups", |options| Box::new(kernel::cgroups::ControlGroups::new(options))),
    off("interrupts", |options| Box::new(cpu::interrupts::Interrupts::new(options))),
    off("ksmd", |options| Box::new(memory::ksmd::Ksmd::new(options))),
    off("lnstat", |options| Box::new(network::lnstat::LnStat::new(options))),
    off("meminfo_numa", |options| Box::new(memory::numa::NumaMemory::new(options))),
    off("mountstats", |options| Box::new(disk::mountstats::MountStats::new(options))),
    off("processes", |options| Box::new(kernel::processes::Processes::new(options))),
    off("slabinfo", |options| Box::new(memory::slabinfo::SlabInfo::new(options))),
    off("softirqs", |options| Box::new(cpu::softirqs::SoftIrqs::new(options))),
    off("swap", |options| Box::new(memory::swap::Swap::new(options))),
    off("sysctl", |options| Box::new(kernel::sysctl::Sysctl::new(options))),
    off("tcpstat", |options| Box::new(network::tcpstat::TcpStat::new(options))),
    off("xfrm", |options| Box::new(network::xfrm::Xfrm::new(options))),
    off("zoneinfo", |options| Box::new(memory::zoneinfo::ZoneInfo::new(options))),
    // Last, so that a file cannot say what a collector says.
    on("textfile", |options| Box::new(textfile::TextFiles::new(options))),
];

const fn on(name: &'static str, make: fn(&HostOptions) -> Box<dyn Collect>) -> KnownCollector {
    KnownCollector { name, is_default: true, make }
}

const fn off(name: &'static str, make: fn(&HostOptions) -> Box<dyn Collect>) -> KnownCollector {
    KnownCollector { name, is_default: false, make }
}

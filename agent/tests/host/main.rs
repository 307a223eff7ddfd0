//! The host source on node_exporter's test host, on damaged and odd hosts, and
//! on this machine.

mod containers;
mod damage;
mod devices;
mod documented;
mod fixtures;
mod hostile;
mod large;
mod machine;
mod node_exporter;
mod programs;
mod protocols;
mod selinux;
mod systemd;
mod textfile;

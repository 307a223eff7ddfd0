//! Graphics processors: `/sys/class/drm/card*`.
//!
//! AMD's driver says how busy one is, under node_exporter's names. Intel's two
//! (i915 and xe) say how fast each of its parts (`gt`) runs and for how long it
//! slept; that has names of our own. NVIDIA's driver has no files for this.
//! Temperatures, fans and power of all are [`hwmon`](super::hwmon)'s.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, Unit, attribute, attribute_in, push_attributes, push_info, read_texts, text, text_as,
};
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::directory::Directory;
use crate::sources::host::{Error, HostOptions};

const ATTRIBUTES: [Attribute; 7] = [
    attribute("gpu_busy_percent", "node_drm_gpu_busy_percent"),
    attribute("mem_info_gtt_total", "node_drm_memory_gtt_size_bytes"),
    attribute("mem_info_gtt_used", "node_drm_memory_gtt_used_bytes"),
    attribute("mem_info_vis_vram_total", "node_drm_memory_vis_vram_size_bytes"),
    attribute("mem_info_vis_vram_used", "node_drm_memory_vis_vram_used_bytes"),
    attribute("mem_info_vram_total", "node_drm_memory_vram_size_bytes"),
    attribute("mem_info_vram_used", "node_drm_memory_vram_used_bytes"),
];

const TEXTS: [Text; 3] = [
    text_as("mem_info_vram_vendor", "memory_vendor"),
    text_as("power_dpm_force_performance_level", "power_performance_level"),
    text("unique_id"),
];

const MEGAHERTZ: Unit = Unit::Times(1e6);
const MILLISECONDS: Unit = Unit::Over(1e3);

/// Of i915, in `gt/gt<n>` of a card.
const I915: [Attribute; 4] = [
    attribute_in("rps_act_freq_mhz", "lmagent_gpu_frequency_hertz", MEGAHERTZ),
    attribute_in("rps_max_freq_mhz", "lmagent_gpu_frequency_max_hertz", MEGAHERTZ),
    attribute_in("rc6_residency_ms", "lmagent_gpu_idle_seconds_total", MILLISECONDS),
    attribute("throttle_reason_status", "lmagent_gpu_throttled"),
];

/// Of i915 before Linux 6.0, in the card itself.
const I915_OLD: [Attribute; 3] = [
    attribute_in("gt_act_freq_mhz", "lmagent_gpu_frequency_hertz", MEGAHERTZ),
    attribute_in("gt_max_freq_mhz", "lmagent_gpu_frequency_max_hertz", MEGAHERTZ),
    attribute_in("power/rc6_residency_ms", "lmagent_gpu_idle_seconds_total", MILLISECONDS),
];

/// Of xe, in `tile<n>/gt<n>` of the device.
const XE: [Attribute; 4] = [
    attribute_in("freq0/act_freq", "lmagent_gpu_frequency_hertz", MEGAHERTZ),
    attribute_in("freq0/max_freq", "lmagent_gpu_frequency_max_hertz", MEGAHERTZ),
    attribute_in("gtidle/idle_residency_ms", "lmagent_gpu_idle_seconds_total", MILLISECONDS),
    attribute("freq0/throttle/status", "lmagent_gpu_throttled"),
];

pub struct Drm {
    path: PathBuf,
}

impl Drm {
    pub fn new(options: &HostOptions) -> Self {
        Drm { path: options.sysfs.join("class/drm") }
    }
}

impl Collect for Drm {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let class = Directory::open(&self.path)?;
        for card in class.names() {
            // Connectors such as card0-DP-1 are in the same directory.
            let number = card.strip_prefix("card").unwrap_or_default();
            if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let Some(device) = class.inside(&format!("{card}/device")) else { continue };
            let driver = device.link("driver").unwrap_or_default();
            match driver.rsplit('/').next().unwrap_or_default() {
                "amdgpu" => {
                    push_attributes(cycle, buffer, &device, &ATTRIBUTES, &[("card", &card)])?;
                    let texts = read_texts(buffer, &device, &TEXTS);
                    push_info(cycle, "node_drm_card_info", &[("card", &card), ("vendor", "amd")], &texts)?;
                }
                "i915" => push_i915(cycle, buffer, &class, &card)?,
                "xe" => push_xe(cycle, buffer, &device, &card)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn push_i915(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    class: &Directory,
    card: &str,
) -> Result<(), Error> {
    let Some(parts) = class.inside(&format!("{card}/gt")) else {
        let Some(directory) = class.inside(card) else { return Ok(()) };
        return push_attributes(cycle, buffer, &directory, &I915_OLD, &[("card", card), ("gt", "gt0")]);
    };
    push_parts(cycle, buffer, &parts, &I915, card)
}

fn push_xe(cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>, device: &Directory, card: &str) -> Result<(), Error> {
    // Parts are numbered through, whatever tile they are on.
    let Some(names) = device.inside(".").map(|device| device.names()) else { return Ok(()) };
    for tile in names.iter().filter(|name| name.starts_with("tile")) {
        let Some(parts) = device.inside(tile) else { continue };
        push_parts(cycle, buffer, &parts, &XE, card)?;
    }
    Ok(())
}

fn push_parts(
    cycle: &mut Cycle<'_>,
    buffer: &mut Vec<u8>,
    parts: &Directory,
    attributes: &[Attribute],
    card: &str,
) -> Result<(), Error> {
    for part in parts.names().iter().filter(|name| name.starts_with("gt")) {
        let Some(directory) = parts.inside(part) else { continue };
        push_attributes(cycle, buffer, &directory, attributes, &[("card", card), ("gt", part)])?;
    }
    Ok(())
}

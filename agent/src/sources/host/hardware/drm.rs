//! Graphics processors of AMD: `/sys/class/drm/card*`. Other drivers have no
//! files for this.

use std::path::PathBuf;

use crate::sources::host::attribute::{
    Attribute, Text, attribute, push_attributes, push_info, read_texts, text, text_as,
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
            if !device.link("driver").is_some_and(|driver| driver.ends_with("/amdgpu")) {
                continue;
            }
            push_attributes(cycle, buffer, &device, &ATTRIBUTES, &[("card", &card)])?;
            let texts = read_texts(buffer, &device, &TEXTS);
            push_info(cycle, "node_drm_card_info", &[("card", &card), ("vendor", "amd")], &texts)?;
        }
        Ok(())
    }
}

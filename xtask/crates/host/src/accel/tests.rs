// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_base::error::Class;

// Shortened samples: a cloud guest without nested virtualization, an Intel laptop, an AMD server.
const CLOUD: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de pse tsc msr pae hypervisor avx512f\nbugs\t\t: spectre_v1\n";
const INTEL: &str =
    "processor\t: 0\nflags\t\t: fpu vme sse2 ds_cpl vmx smx est\nvmx flags\t: vnmi preemption_timer ept\n";
const AMD: &str = "processor\t: 0\nflags\t\t: fpu vme cmp_legacy svm extapic\n";

#[test]
fn only_the_flags_of_a_processor_count() {
    assert!(!has_virtualization(CLOUD));
    assert!(has_virtualization(INTEL));
    assert!(has_virtualization(AMD));
    assert!(!has_virtualization("flags\t\t: fpu svm_lock vmxnet\nvmx flags\t: vmx\nmodel name\t: svm\n"));
    assert!(!has_virtualization(""));
}

#[test]
fn kvm_needs_the_device_and_the_flag() {
    let usable = Observed { obstacle: None, cpu_flag: true };
    for choice in [AccelChoice::Auto, AccelChoice::Kvm] {
        assert_eq!(judge(choice, &usable).expect("usable").kind, Kind::Kvm);
    }
    assert_eq!(judge(AccelChoice::Tcg, &usable).expect("always possible").kind, Kind::Tcg);

    let table = [
        (None, false, "software KVM", "firmware"),
        (Some(Obstacle::Open(Errno::EACCES)), true, "may not be opened", "usermod -aG kvm"),
        (Some(Obstacle::Open(Errno::ENOENT)), true, "module is not loaded", "modprobe"),
        (Some(Obstacle::Open(Errno::ENOENT)), false, "neither svm nor vmx", "nested virtualization"),
        (Some(Obstacle::Open(Errno::EACCES)), false, "neither svm nor vmx", "nested virtualization"),
        (Some(Obstacle::OtherVersion(11)), true, "version 11", "modprobe"),
        (Some(Obstacle::CreateVm(Errno::EBUSY)), true, "another hypervisor", "VirtualBox"),
        (Some(Obstacle::CreateVm(Errno::EIO)), true, "KVM_CREATE_VM", "firmware"),
        (Some(Obstacle::CreateVcpu(Errno::EINVAL)), true, "KVM_CREATE_VCPU", "firmware"),
    ];
    for (obstacle, cpu_flag, why, fix) in table {
        let seen = Observed { obstacle, cpu_flag };
        let auto = judge(AccelChoice::Auto, &seen).expect("emulation is always possible");
        assert_eq!(auto.kind, Kind::Tcg, "{seen:?}");
        assert!(auto.reason.contains(why) && auto.reason.contains(fix), "{seen:?}: {}", auto.reason);
        let error = judge(AccelChoice::Kvm, &seen).expect_err("demanded, and not usable");
        assert_eq!(error.class, Class::Host);
        assert!(error.to_string().contains(why) && error.to_string().contains(fix), "{error}");
    }
}

//! Families of generic netlink, whose numbers differ from kernel to kernel and are looked up.

use weave_netlink::{Attributes, DecodeError};

/// The number of a family in the running kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FamilyId(pub u16);

impl FamilyId {
    /// The family that looks up all others, `GENL_ID_CTRL`.
    pub const CONTROL: Self = Self(16);
}

/// A family of the Open vSwitch datapath.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// Datapaths.
    Datapath,
    /// Ports of datapaths.
    Vport,
    /// Flows of datapaths.
    Flow,
    /// Packets from and to datapaths.
    Packet,
}

/// All families of the Open vSwitch datapath.
pub const FAMILIES: [Family; 4] = [Family::Datapath, Family::Vport, Family::Flow, Family::Packet];

impl Family {
    /// Returns the name of the family in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Datapath => "ovs_datapath",
            Self::Vport => "ovs_vport",
            Self::Flow => "ovs_flow",
            Self::Packet => "ovs_packet",
        }
    }

    /// Returns a text for the operator if the family is missing.
    pub(crate) const fn missing(self) -> &'static str {
        match self {
            Self::Datapath => "ovs_datapath: the module openvswitch is missing",
            Self::Vport => "ovs_vport: the module openvswitch is too old",
            Self::Flow => "ovs_flow: the module openvswitch is too old",
            Self::Packet => "ovs_packet: the module openvswitch is too old",
        }
    }

    /// Returns the version of the messages that this crate uses.
    pub(crate) const fn version(self) -> u8 {
        match self {
            Self::Datapath => 2,
            Self::Vport | Self::Flow | Self::Packet => 1,
        }
    }
}

/// The numbers of the four families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Families {
    /// Number of [`Family::Datapath`].
    pub datapath: FamilyId,
    /// Number of [`Family::Vport`].
    pub vport: FamilyId,
    /// Number of [`Family::Flow`].
    pub flow: FamilyId,
    /// Number of [`Family::Packet`].
    pub packet: FamilyId,
    /// Multicast group for events of vports.
    pub vport_group: u32,
}

impl Families {
    /// Returns the number of a family.
    pub const fn id(&self, family: Family) -> FamilyId {
        match family {
            Family::Datapath => self.datapath,
            Family::Vport => self.vport,
            Family::Flow => self.flow,
            Family::Packet => self.packet,
        }
    }
}

/// The answer to a look-up of a family (`CTRL_CMD_NEWFAMILY`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FamilyInfo {
    pub(crate) id: FamilyId,
    /// Multicast groups by name.
    pub(crate) groups: Vec<(String, u32)>,
}

impl FamilyInfo {
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let (mut id, mut groups) = (None, Vec::new());
        for field in Attributes::new(payload, 0) {
            let field = field?;
            match field.kind {
                // CTRL_ATTR_FAMILY_ID, CTRL_ATTR_MCAST_GROUPS
                1 => id = Some(FamilyId(field.u16("family id")?)),
                7 => {
                    for group in field.nested() {
                        groups.extend(decode_group(group?.nested())?);
                    }
                }
                _ => {}
            }
        }
        let id = id.ok_or(DecodeError::Missing { what: "family id" })?;
        Ok(Self { id, groups })
    }

    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|(known, _)| known == name).map(|&(_, id)| id)
    }
}

fn decode_group(fields: Attributes<'_>) -> Result<Option<(String, u32)>, DecodeError> {
    let (mut name, mut id) = (None, None);
    for field in fields {
        let field = field?;
        match field.kind {
            // CTRL_ATTR_MCAST_GRP_NAME, CTRL_ATTR_MCAST_GRP_ID
            1 => name = Some(field.text("group name")?.to_owned()),
            2 => id = Some(field.u32("group id")?),
            _ => {}
        }
    }
    Ok(name.zip(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{Attribute, append};

    #[test]
    fn the_answer_to_a_lookup() {
        let group =
            |name, id| Attribute::nest(1, vec![Attribute::u32(2, id), Attribute::text(1, name)]);
        let mut bytes = Vec::new();
        let answer = [
            Attribute::text(2, "ovs_vport"),
            Attribute::u16(1, 33),
            Attribute::u32(3, 1),
            Attribute::nest(7, vec![group("other", 8), group("ovs_vport", 9)]),
        ];
        append(&answer, &mut bytes).unwrap();
        let info = FamilyInfo::decode(&bytes).unwrap();
        assert_eq!(info.id, FamilyId(33));
        assert_eq!((info.group("ovs_vport"), info.group("none")), (Some(9), None));
        let error = FamilyInfo::decode(&[]).unwrap_err();
        assert_eq!(error, DecodeError::Missing { what: "family id" });
    }
}

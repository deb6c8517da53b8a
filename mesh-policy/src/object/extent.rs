//! How far an object reaches.

/// Where an object applies: where it says, or further.
///
/// Users can only write the first. The others are for who stands in for a user who wrote nothing that can be read, or
/// for one who asks without saying what is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Extent {
    /// To everything, whatever the object says: for questions about a destination of which nothing is known. Names and
    /// what they are relative to stay as they are; node proxies still receive no policy that names a target.
    Mesh,
    /// To everything in its namespace, waypoints included, or in the root namespace to all of the mesh: of an object of
    /// which it cannot be told where it applies.
    Namespace,
    /// Where its namespace, its selector and its targets say.
    #[default]
    Written,
}

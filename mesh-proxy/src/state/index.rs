use std::{hash::Hash, sync::Arc};

use rpds::HashTrieMapSync;

/// A persistent index from keys to the objects that claim them, in the order in which they first did.
///
/// Conflicting claims are all kept: when all but one of the claimants leave, the remaining one is found.
#[derive(Debug)]
pub(super) struct Index<K: Hash + Eq, T> {
    groups: HashTrieMapSync<K, Vec<Arc<T>>>,
}

impl<K: Hash + Eq + Clone, T> Index<K, T> {
    /// The objects that claim `key`.
    pub(super) fn get<Q>(&self, key: &Q) -> &[Arc<T>]
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.groups.get(key).map_or(&[], Vec::as_slice)
    }

    /// Every object under each of its keys, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.groups.values().flatten()
    }

    /// Whether nothing is indexed.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Replaces an object by its next version, either of which may be absent, under the keys each of them
    /// has.
    ///
    /// Under keys that both have, the next version takes the place of the old one.
    pub(super) fn replace(
        &mut self,
        old: Option<&Arc<T>>,
        new: Option<&Arc<T>>,
        keys: impl Fn(&T) -> Vec<K>,
    ) {
        let new_keys = new.map_or_else(Vec::new, |object| keys(object));
        for key in old.map_or_else(Vec::new, |object| keys(object)) {
            if !new_keys.contains(&key) {
                self.edit(key, |group| group.retain(|member| !is(member, old)));
            }
        }
        let Some(new) = new else { return };
        for key in new_keys {
            self.edit(key, |group| {
                match group.iter_mut().find(|member| is(member, old) || is(member, Some(new))) {
                    Some(member) => *member = Arc::clone(new),
                    None => group.push(Arc::clone(new)),
                }
            });
        }
    }

    fn edit(&mut self, key: K, change: impl FnOnce(&mut Vec<Arc<T>>)) {
        let mut group = self.groups.get(&key).cloned().unwrap_or_default();
        change(&mut group);
        if group.is_empty() {
            self.groups.remove_mut(&key);
        } else {
            self.groups.insert_mut(key, group);
        }
    }
}

impl<K: Hash + Eq, T> Clone for Index<K, T> {
    fn clone(&self) -> Self {
        Self { groups: self.groups.clone() }
    }
}

impl<K: Hash + Eq, T> Default for Index<K, T> {
    fn default() -> Self {
        Self { groups: HashTrieMapSync::default() }
    }
}

fn is<T>(member: &Arc<T>, object: Option<&Arc<T>>) -> bool {
    object.is_some_and(|object| Arc::ptr_eq(member, object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_version_takes_the_place_of_the_old_one() {
        let (first, second, third) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let keys = |_: &i32| vec!["k"];
        let mut index = Index::default();
        index.replace(None, Some(&first), keys);
        index.replace(None, Some(&second), keys);
        index.replace(Some(&first), Some(&third), keys);
        assert_eq!(index.get("k"), [third, second]);
    }

    #[test]
    fn dropped_keys_leave_nothing_behind() {
        let object = Arc::new(1);
        let mut index = Index::default();
        index.replace(None, Some(&object), |_| vec!["k"]);
        index.replace(Some(&object), None, |_| vec!["k"]);
        assert!(index.is_empty());
    }
}

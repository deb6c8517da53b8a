//! A sorted sequence that snapshots share.

use std::{ops::ControlFlow, slice, sync::Arc};

/// Elements in an order that the caller keeps, in pages that clones share.
///
/// A clone costs one reference count. A change copies the pages it touches and the list of pages, and only
/// those that a clone still shares. Searching is binary and follows one pointer.
///
/// Places are named by a predicate that is true for the elements before them.
#[derive(Clone, Debug)]
pub(super) struct SortedPages<T> {
    pages: Arc<Vec<Page<T>>>,
    len: usize,
}

/// Never empty.
#[derive(Clone, Debug)]
struct Page<T> {
    /// The last of the items, to search the list of pages without visiting them.
    last: T,
    items: Arc<Vec<T>>,
}

impl<T> SortedPages<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        Iter { pages: self.pages.iter(), items: [].iter(), remaining: self.len }
    }

    /// The elements from a place on.
    pub(super) fn from(&self, is_before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let start = self.pages.partition_point(|page| is_before(&page.last));
        let (first, rest) = match self.pages.get(start..) {
            Some([first, rest @ ..]) => (first.items.as_slice(), rest),
            _ => (&[][..], &[][..]),
        };
        let first = first.get(first.partition_point(is_before)..).unwrap_or_default();
        first.iter().chain(rest.iter().flat_map(|page| page.items.iter()))
    }
}

impl<T> SortedPages<T> {
    /// Visits the elements from a place on until told to stop.
    pub(super) fn visit_from<'a>(
        &'a self,
        is_before: impl Fn(&T) -> bool,
        mut visit: impl FnMut(&'a T) -> ControlFlow<()>,
    ) {
        let start = self.pages.partition_point(|page| is_before(&page.last));
        let mut skipped = None;
        for page in self.pages.get(start..).unwrap_or_default() {
            // Only on the first page does anything come before.
            let start = skipped.replace(0).unwrap_or_else(|| page.items.partition_point(&is_before));
            for item in page.items.get(start..).unwrap_or_default() {
                if visit(item).is_break() {
                    return;
                }
            }
        }
    }
}

impl<T: Clone> SortedPages<T> {
    /// Elements that are in their order, in pages three quarters full: the next changes do not split each.
    pub(super) fn of(items: Vec<T>) -> Self {
        let len = items.len();
        let mut pages = Vec::with_capacity(len.div_ceil(MAX_PAGE / 4 * 3));
        let mut items = items.into_iter();
        loop {
            let items: Vec<T> = items.by_ref().take(MAX_PAGE / 4 * 3).collect();
            let Some(last) = items.last().cloned() else { break };
            pages.push(Page { last, items: Arc::new(items) });
        }
        Self { pages: Arc::new(pages), len }
    }

    /// Inserts an element at a place.
    pub(super) fn insert(&mut self, item: T, is_before: impl Fn(&T) -> bool) {
        self.len += 1;
        let pages = Arc::make_mut(&mut self.pages);
        // Past the last page is the end of the last page.
        let index = pages.partition_point(|page| is_before(&page.last)).min(pages.len().saturating_sub(1));
        let Some(page) = pages.get_mut(index) else {
            pages.push(Page { last: item.clone(), items: Arc::new(vec![item]) });
            return;
        };
        let items = Arc::make_mut(&mut page.items);
        let at = items.partition_point(is_before);
        if at == items.len() {
            page.last = item.clone();
        }
        items.insert(at, item);
        if items.len() > MAX_PAGE {
            let back = items.split_off(items.len() / 2);
            let back = Page { last: page.last.clone(), items: Arc::new(back) };
            page.update_last();
            pages.insert(index + 1, back);
        }
    }

    /// Removes the element at a place if it is the one meant.
    pub(super) fn remove(
        &mut self,
        is_before: impl Fn(&T) -> bool,
        is_meant: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let index = self.pages.partition_point(|page| is_before(&page.last));
        let items = &self.pages.get(index)?.items;
        let at = items.partition_point(is_before);
        items.get(at).filter(|item| is_meant(item))?;

        self.len -= 1;
        let pages = Arc::make_mut(&mut self.pages);
        let page = pages.get_mut(index)?;
        let removed = Arc::make_mut(&mut page.items).remove(at);
        page.update_last();
        if page.items.is_empty() {
            pages.remove(index);
        } else if !merge_with_next(pages, index) && index > 0 {
            merge_with_next(pages, index - 1);
        }
        Some(removed)
    }
}

impl<T: Clone> Page<T> {
    fn update_last(&mut self) {
        if let Some(last) = self.items.last() {
            self.last = last.clone();
        }
    }
}

/// Merges two neighbours if neither is needed; the result is far from being split again.
fn merge_with_next<T: Clone>(pages: &mut Vec<Page<T>>, index: usize) -> bool {
    let Some([page, next]) = pages.get_mut(index..).and_then(|rest| rest.first_chunk_mut()) else {
        return false;
    };
    if page.items.len() + next.items.len() > MAX_PAGE / 2 {
        return false;
    }
    Arc::make_mut(&mut page.items).extend(next.items.iter().cloned());
    page.last = next.last.clone();
    pages.remove(index + 1);
    true
}

impl<T> Default for SortedPages<T> {
    fn default() -> Self {
        Self { pages: Arc::default(), len: 0 }
    }
}

/// All elements in their order.
#[derive(Clone, Debug)]
pub(super) struct Iter<'a, T> {
    pages: slice::Iter<'a, Page<T>>,
    items: slice::Iter<'a, T>,
    remaining: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let item = match self.items.next() {
            Some(item) => item,
            None => {
                self.items = self.pages.next()?.items.iter();
                self.items.next()?
            }
        };
        self.remaining -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

/// Smaller pages copy less when one element changes, larger ones keep the list of pages short, which a
/// change copies as well: a balance for some hundred thousand elements.
const MAX_PAGE: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn insert(pages: &mut SortedPages<u16>, number: u16) {
        pages.insert(number, |other| *other < number);
    }

    fn remove(pages: &mut SortedPages<u16>, number: u16) -> Option<u16> {
        pages.remove(|other| *other < number, |other| *other == number)
    }

    fn assert_well_formed(pages: &SortedPages<u16>) {
        for page in pages.pages.iter() {
            assert_eq!(page.items.last(), Some(&page.last));
            assert!(page.items.len() <= MAX_PAGE);
        }
    }

    proptest! {
        // Few distinct numbers make equal elements cross pages.
        #[test]
        fn is_a_sorted_list(changes in vec((prop::bool::weighted(0.7), 0..400_u16), 0..1500), sought in 0..400_u16) {
            let mut pages = SortedPages::default();
            let mut model: Vec<u16> = Vec::new();
            for (is_insert, number) in changes {
                let at = model.partition_point(|other| *other < number);
                if is_insert {
                    insert(&mut pages, number);
                    model.insert(at, number);
                } else {
                    let known = model.get(at) == Some(&number);
                    prop_assert_eq!(remove(&mut pages, number), known.then(|| model.remove(at)));
                }
            }
            assert_well_formed(&pages);
            prop_assert_eq!(pages.iter().len(), model.len());
            prop_assert!(pages.iter().eq(&model));
            let from = model.partition_point(|other| *other < sought);
            prop_assert!(pages.from(|other| *other < sought).eq(&model[from..]));
            let mut visited = Vec::new();
            pages.visit_from(|other| *other < sought, |number| {
                visited.push(*number);
                if visited.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            prop_assert_eq!(&visited[..], &model[from..][..visited.len()]);
            prop_assert!(visited.len() == 100 || visited.len() == model.len() - from);
            let built = SortedPages::of(model.clone());
            assert_well_formed(&built);
            prop_assert_eq!(built.len(), model.len());
            prop_assert!(built.iter().eq(&model));
        }
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut pages = SortedPages::default();
        (0..1000).for_each(|number| insert(&mut pages, number));
        let before = pages.clone();
        (0..1000).step_by(3).for_each(|number| assert_eq!(remove(&mut pages, number), Some(number)));
        insert(&mut pages, 2000);
        assert!(before.iter().copied().eq(0..1000));
        assert!(pages.iter().copied().eq((0..1000).filter(|number| number % 3 != 0).chain([2000])));
    }

    #[test]
    fn shrinking_gives_pages_back() {
        let mut pages = SortedPages::default();
        (0..1000).for_each(|number| insert(&mut pages, number));
        (0..1000).filter(|number| number % 50 != 0).for_each(|number| {
            remove(&mut pages, number);
        });
        assert_eq!(pages.len(), 20);
        assert_eq!(pages.pages.len(), 1);
        (0..1000).for_each(|number| {
            remove(&mut pages, number);
        });
        assert!(pages.pages.is_empty());
    }
}

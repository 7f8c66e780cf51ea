// What a page cannot do by itself: the live stream, the reader's own time, marks that are checked when they are seen, and keys.
'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const records = byId('records');

  // ---- markup that the server escaped; the policy is the one that the page's rules name
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy('nachos', { createHTML: (html) => html })
    : { createHTML: (html) => html };
  const fragment = (html) => {
    const template = document.createElement('template');
    template.innerHTML = policy.createHTML(html);
    return template.content;
  };

  // ---- times of the reader's own zone
  const two = (n) => String(n).padStart(2, '0');
  const clock = (d) => `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, '0')}`;
  const day = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  const ago = (d) => {
    const s = Math.max(0, Math.floor((Date.now() - d.getTime()) / 1000));
    if (s < 60) return `${s} s ago`;
    if (s < 3600) return `${Math.floor(s / 60)} min ago`;
    return s < 86400 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} d ago`;
  };
  const localize = (root) => {
    for (const time of root.querySelectorAll('time[datetime]')) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      if ('age' in time.dataset) { time.textContent = ago(at); continue; }
      const today = day(at) === day(new Date());
      time.textContent = 'long' in time.dataset ? `${day(at)} ${clock(at)}` : today ? clock(at) : `${day(at).slice(5)} ${clock(at).slice(0, 5)}`;
      time.title = `${day(at)} ${clock(at)} (${time.dateTime})`;
    }
  };
  localize(document);
  setInterval(() => localize(byId('seal') || document.createElement('p')), 1000);

  // ---- verified or not: asked for the records that are seen, a page of them at a time
  const MARKS = 60, PENDING_AGAIN = 4000;
  const waiting = new Set();
  let asking = false;
  const ask = async () => {
    if (asking || waiting.size === 0) return;
    asking = true;
    const batch = [...waiting].slice(0, MARKS);
    batch.forEach((record) => waiting.delete(record));
    try {
      const query = batch.map((record) => `r=${record.dataset.seq}.${record.dataset.print}`).join('&');
      const answer = await fetch(`/marks?${query}`, { headers: { accept: 'application/json' } });
      if (!answer.ok) throw new Error('no marks');
      const found = await answer.json();
      let pending = false;
      for (const record of batch) {
        const mark = record.querySelector('.mark'), said = found[record.dataset.seq];
        if (!mark || !said) continue;
        if (said.mark === 'stale' && await renew(record)) continue;
        mark.dataset.mark = said.mark;
        mark.title = `${{ verified: 'Verified', pending: 'Not sealed yet', failed: 'NOT VERIFIED', stale: 'Changed meanwhile' }[said.mark] || 'Not checked'}: ${said.why}`;
        mark.setAttribute('role', 'img');
        mark.setAttribute('aria-label', mark.title);
        if (said.mark === 'pending') { pending = true; setTimeout(() => record.isConnected && look(record), PENDING_AGAIN); }
      }
      if (pending) setTimeout(ask, PENDING_AGAIN + 50);
      alarm();
    } catch { batch.forEach((record) => setTimeout(look, PENDING_AGAIN, record)); /* asked again with what is seen next */ }
    asking = false;
    if (waiting.size > 0) setTimeout(ask, 50);
  };
  const alarm = () => {
    const bad = document.querySelectorAll('.rec .mark[data-mark=failed]').length;
    const text = bad === 1 ? '1 record on this page is not what was sealed; it is marked ✗.' : `${bad} records on this page are not what was sealed; they are marked ✗.`;
    if (bad > 0 && byId('alarm').textContent !== text) { byId('alarm').textContent = text; byId('alarm').hidden = false; }
  };
  // Texts come a moment after their record: a line that was shown before them is made anew, a few times at most.
  const RENEWALS = 3;
  const renew = async (record) => {
    const before = Number(record.dataset.renewed || 0);
    if (!record.closest('.records') || before >= RENEWALS) return false;
    const answer = await fetch(`/row/${record.dataset.seq}`);
    const row = answer.ok && fragment(await answer.text()).querySelector('.rec');
    if (!row || !record.isConnected) return false;
    row.dataset.renewed = before + 1;
    row.classList.toggle('here', record.classList.contains('here'));
    localize(row);
    record.replaceWith(row);
    watch(row);
    return true;
  };
  const look = (record) => { waiting.add(record); };
  const seen = 'IntersectionObserver' in window ? new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); look(entry.target); }
    setTimeout(ask, 80);
  }) : null;
  const watch = (record) => seen && seen.observe(record);
  document.querySelectorAll('.rec[data-print]').forEach(watch);

  // ---- the live stream
  const MOST_ROWS = 1000, MOST_HELD = 500;
  const live = byId('live'), pause = byId('pause'), shown = byId('shown');
  if (records && 'live' in records.dataset && 'EventSource' in window) {
    let last = Number(records.dataset.after), paused = false, tries = 0, source = null;
    const held = [];
    const say = (state, word) => { live.dataset.state = state; live.querySelector('.word').textContent = word; };
    const told = () => { if (paused) say('paused', held.length ? `Paused, ${held.length} new` : 'Paused'); else say('on', 'Live'); };
    const insert = (html) => {
      const part = fragment(html), row = part.querySelector('.rec');
      if (!row || byId(row.id)) return;
      localize(row);
      row.classList.add('new');
      // Who reads further down must not lose the line.
      const before = document.documentElement.scrollHeight, far = window.scrollY > 200;
      records.prepend(row);
      if (far) window.scrollBy(0, document.documentElement.scrollHeight - before);
      watch(row);
      while (records.children.length > MOST_ROWS) records.lastElementChild.remove();
      if (byId('empty')) byId('empty').remove();
      shown.textContent = String(records.children.length);
      announce();
    };
    const count = () => { byId('indexed').textContent = String(last).replace(/\B(?=(\d{3})+$)/g, '\u2009'); };
    let fresh = 0, speaking = 0;
    const announce = () => {
      fresh += 1;
      if (speaking) return;
      speaking = setTimeout(() => { byId('announce').textContent = `${fresh} new`; fresh = 0; speaking = 0; }, 3000);
    };
    const connect = () => {
      const join = records.dataset.events.includes('?') ? '&' : '?';
      source = new EventSource(`${records.dataset.events}${join}after=${last}`);
      source.onopen = () => { tries = 0; told(); };
      source.addEventListener('record', (event) => {
        const seq = Number(event.lastEventId);
        if (!(seq > last)) return;
        last = seq;
        count();
        if (paused) { held.push(event.data); if (held.length > MOST_HELD) location.reload(); told(); } else insert(event.data);
      });
      source.addEventListener('seal', (event) => {
        last = Math.max(last, Number(event.lastEventId) || 0);
        byId('seal').replaceChildren(fragment(event.data));
        localize(byId('seal'));
        count();
        ask();
      });
      source.addEventListener('reload', () => location.reload());
      source.addEventListener('over', () => { source.close(); say('off', 'Logged out'); });
      source.onerror = () => {
        say('off', 'Connection lost');
        // The browser connects again by itself, except after an answer that is no stream.
        if (source.readyState !== EventSource.CLOSED) return;
        tries += 1;
        const again = () => setTimeout(connect, Math.min(30000, 1000 * 2 ** tries));
        fetch('/marks').then((answer) => (answer.status === 401 ? say('off', 'Logged out') : again()), again);
      };
    };
    live.hidden = pause.hidden = false;
    pause.addEventListener('click', () => {
      paused = !paused;
      pause.textContent = paused ? 'Go on' : 'Pause';
      if (!paused) held.splice(0).forEach(insert);
      told();
    });
    connect();
    addEventListener('pagehide', () => source && source.close());
    addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
  }

  // ---- keys
  const help = byId('help'), keys = byId('keys');
  if (keys) { keys.hidden = false; keys.addEventListener('click', () => help.showModal()); }
  const rows = () => (records ? [...records.querySelectorAll('.rec')] : []);
  const here = () => records && records.querySelector('.rec.here');
  const go = (step) => {
    const all = rows(), at = all.indexOf(here());
    const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
    if (!next) return;
    if (here()) here().classList.remove('here');
    next.classList.add('here');
    next.querySelector('a.seq').focus({ preventScroll: true });
    next.scrollIntoView({ block: 'nearest' });
  };
  const follow = (key) => { const link = document.querySelector(`a[data-key="${key}"]`); if (link) link.click(); return Boolean(link); };
  const actions = {
    j: () => follow('j') || go(1),
    k: () => follow('k') || go(-1),
    u: () => follow('u'),
    t: () => { const link = here() && here().querySelector('a.turn'); if (link) link.click(); else follow('t'); },
    p: () => pause && pause.click(),
    '?': () => help.showModal(),
    '/': () => { const filters = byId('filters'); if (filters) { filters.open = true; filters.querySelector('input').focus(); } },
    Enter: () => { if (here()) here().querySelector('a.seq').click(); },
  };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const writing = event.target.closest('input, textarea, select, dialog[open]');
    if (event.key === 'Escape' && writing && writing.tagName === 'INPUT') { writing.blur(); return; }
    if (writing || !Object.hasOwn(actions, event.key)) return;
    if (event.key === 'Enter' && event.target.closest('a, button, summary')) return;
    event.preventDefault();
    actions[event.key]();
  });
})();

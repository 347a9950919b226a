# Cache::Memcached::Fast: every method and its _multi form.
use strict;
use warnings;
use utf8;

use Cache::Memcached::Fast;
use Data::Dumper;

$Data::Dumper::Indent = 0;
$Data::Dumper::Terse = 1;
$Data::Dumper::Sortkeys = 1;
$Data::Dumper::Useqq = 1;
binmode STDOUT, ':utf8';
$| = 1;

my $address = "$ENV{MEMCACHED_HOST}:$ENV{MEMCACHED_PORT}";
my $prefix = '';
use constant { FAR_S => 100_000, TOO_LARGE_BYTES => 2_000_000 };

sub brief {
    my $text = Dumper(@_);
    return length $text <= 200 ? $text : substr($text, 0, 100) . '... ' . length $text;
}

# Prototypes: in list context a method that fails returns nothing at all.
sub equal($$$) {
    my ($name, $got, $expected) = @_;
    if (Dumper($got) eq Dumper($expected)) {
        print "ok $prefix$name\n";
    }
    else {
        print "not ok $prefix$name: ", brief($got), ', not ', brief($expected), "\n";
    }
}

sub saw($$) {
    my ($name, $what) = @_;
    print "saw $prefix$name: ", brief($what), "\n";
}

# Numbers and texts are the same to it; told as text.
sub same($$$) { equal($_[0], defined $_[1] ? "$_[1]" : undef, defined $_[2] ? "$_[2]" : undef) }

# Bytes which do not compress, the same for the same size.
sub payload {
    my ($size) = @_;
    srand $size;
    return join '', map { chr int rand 256 } 1 .. $size;
}

sub client {
    return Cache::Memcached::Fast->new({
        servers => [$address], connect_timeout => 20, io_timeout => 20, utf8 => 1,
        compress_threshold => -1, max_size => 2 * TOO_LARGE_BYTES, @_,
    });
}

sub basics {
    my ($m) = @_;
    same('flush_all', (values %{ $m->flush_all })[0], 1);
    same('get none', $m->get('a'), undef);
    same('set', $m->set('a', 'one'), 1);
    same('get', $m->get('a'), 'one');
    same('add there', $m->add('a', 'two'), '');
    same('add', $m->add('b', 'two'), 1);
    same('replace', $m->replace('a', 3), 1);
    same('replace none', $m->replace('none', 3), '');
    same('append', $m->append('a', '4'), 1);
    same('prepend', $m->prepend('a', '5'), 1);
    same('append none', $m->append('none', '5'), '');
    same('joined', $m->get('a'), '534');
    same('incr', $m->incr('a', 7), 541);
    same('incr by one', $m->incr('a'), 542);
    same('decr', $m->decr('a', 40), 502);
    same('decr below zero', $m->decr('a', 4000), '0E0');
    same('incr none', $m->incr('none'), '');
    $m->set('text', 'abc');
    same('incr text', $m->incr('text'), undef);
    same('usable', $m->get('text'), 'abc');
    same('touch', $m->touch('b', FAR_S), 1);
    same('touch none', $m->touch('none', FAR_S), '');
    equal('gat', $m->gat(FAR_S, 'b'), 'two');
    my $found = $m->gats(FAR_S, 'b');
    same('gats', $found->[1], 'two');
    same('gats tells a cas', $found->[0] > 0, 1);
    same('gat none', $m->gat(FAR_S, 'none'), undef);
    same('touch to the past', $m->touch('b', -1), 1);
    same('touched away', $m->get('b'), undef);
    same('born expired', $m->set('gone', 'x', -1), 1);
    same('expired', $m->get('gone'), undef);
    same('delete', $m->delete('a'), 1);
    same('delete none', $m->delete('a'), '');
    for my $size (0, 1, 4095, 70_000, 600_000, 1_048_000) {
        my $value = payload($size);
        same("set $size bytes", $m->set('v', $value), 1);
        same("get $size bytes", $m->get('v') eq $value, 1);
    }
    my $thing = { a => [1, 2.5, undef], b => 'ü' };
    same('set thing', $m->set('thing', $thing), 1);
    equal('get thing', $m->get('thing'), $thing);
    same('wide value', $m->set('wide', 'schlüssel€'), 1);
    same('get wide value', $m->get('wide'), 'schlüssel€');
    my $key = 'k' x 240;
    same('long key', $m->set($key, 1), 1);
    same('get of long key', $m->get($key), 1);
    $m->set('large', 'old');
    same('too large', $m->set('large', payload(TOO_LARGE_BYTES)), undef);
    same('old value gone', $m->get('large'), undef);
}

sub cas {
    my ($m) = @_;
    $m->set('c', 'one');
    my $found = $m->gets('c');
    same('gets', $found->[1], 'one');
    same('gets none', $m->gets('none'), undef);
    same('cas', $m->cas('c', $found->[0], 'two'), 1);
    same('cas too late', $m->cas('c', $found->[0], 'three'), '');
    same('cas none', $m->cas('none', $found->[0], 'three'), '');
    same('after cas', $m->get('c'), 'two');
    $m->set_multi(['d', 1], ['e', 2]);
    my $all = $m->gets_multi('c', 'd', 'e', 'none');
    equal('gets_multi', [map { $all->{$_}[1] } sort keys %$all], ['two', '1', '2']);
    my $results = $m->cas_multi(['c', $all->{c}[0], 'x'], ['d', $all->{c}[0], 'y']);
    equal('cas_multi', [map { "$results->{$_}" } sort keys %$results], ['1', '']);
}

sub bulk {
    my ($m) = @_;
    my @keys = map { "m$_" } 0 .. 499;
    my @done = $m->set_multi(map { [$_, "v$_", FAR_S] } @keys);
    same('set_multi', scalar(grep { $_ } @done), 500);
    my $got = $m->get_multi(@keys, 'none');
    same('get_multi', scalar(grep { $got->{$_} eq "v$_" } @keys), 500);
    same('get_multi of 500', scalar keys %$got, 500);
    equal('add_multi', [map { "$_" } $m->add_multi(['m1', 5], ['n1', 6])], ['', '1']);
    equal('replace_multi', [map { "$_" } $m->replace_multi(['m1', 5], ['n2', 6])], ['1', '']);
    equal('append_multi', [map { "$_" } $m->append_multi(['m1', 5], ['n2', 6])], ['1', '']);
    equal('prepend_multi', [map { "$_" } $m->prepend_multi(['m1', 3], ['n2', 6])], ['1', '']);
    equal('incr_multi', [map { "$_" } $m->incr_multi(['m1', 5], 'n1', ['n2', 1])], ['360', '7', '']);
    equal('decr_multi', [map { "$_" } $m->decr_multi(['m1', 5], 'n1')], ['355', '6']);
    equal('touch_multi', [map { "$_" } $m->touch_multi(['m1', FAR_S], ['n2', FAR_S])], ['1', '']);
    my $touched = $m->gat_multi(FAR_S, 'm1', 'm2', 'none');
    equal('gat_multi', $touched, { m1 => '355', m2 => 'vm2' });
    my $uniques = $m->gats_multi(FAR_S, 'm1', 'm2');
    equal('gats_multi', [map { $uniques->{$_}[1] } sort keys %$uniques], ['355', 'vm2']);
    equal('delete_multi', [map { "$_" } $m->delete_multi('m1', 'm2', 'none')], ['1', '1', '']);
    same('deleted', $m->get('m1'), undef);
    # Nothing is answered in void context; what follows is in step.
    for my $i (0 .. 299) {
        $m->set("q$i", $i);
        $m->incr("q$i");
        $m->delete("q$i") if $i % 2;
    }
    $m->set_multi(['r1', 1], ['r2', 2]);
    $m->append('r1', 1);
    $m->touch('r2', -1);
    $m->nowait_push;
    my $left = $m->get_multi(map { "q$_" } 0 .. 299);
    same('after noreply', scalar(grep { $left->{"q$_"} == $_ + 1 } grep { $_ % 2 == 0 } 0 .. 299), 150);
    same('left after noreply', scalar keys %$left, 150);
    equal('more after noreply', $m->get_multi('r1', 'r2'), { r1 => '11' });
}

for my $options (['basics'], ['nowait', nowait => 1, close_on_error => 0], ['namespace', namespace => 'p:'],
    ['ketama', ketama_points => 150, max_failures => 3, failure_timeout => 2])
{
    my ($name, @more) = @$options;
    my $m = client(@more);
    $prefix = "$name: ";
    basics($m);
    $prefix = "$name-cas: ";
    cas($m);
    $prefix = "$name-bulk: ";
    bulk($m);
    $m->disconnect_all;
}
$prefix = 'administration: ';
my $m = client();
saw('server_versions', [values %{ $m->server_versions }]);
same('delayed flush', (values %{ $m->flush_all(1000) })[0], 1);
same('not yet', $m->get('r1'), '11');
same('flush', (values %{ $m->flush_all })[0], 1);
same('flushed', $m->get('r1'), undef);
$prefix = 'compression: ';
my $packed = client(compress_threshold => 1000);
same('set', $packed->set('z', 'x' x TOO_LARGE_BYTES), 1);
same('get', length($packed->get('z') // ''), TOO_LARGE_BYTES);

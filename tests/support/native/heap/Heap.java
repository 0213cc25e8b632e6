import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Does what heap.c does, with the Java heap: arrays are zeros when they are made, and half of the heap is collected. */
class Heap {
    static final int[] SIZES = {104, 504, 2000, 9000, 70000, 600000};

    static void fill(byte[] block, int seed) {
        for (int i = 0; i < block.length; i++) block[i] = (byte) (seed * 31 + i * 7 | 1);
    }

    static boolean isFilled(byte[] block, int seed) {
        for (int i = 0; i < block.length; i++) if (block[i] != (byte) (seed * 31 + i * 7 | 1)) return false;
        return true;
    }

    static boolean isZero(byte[] block) {
        for (byte value : block) if (value != 0) return false;
        return true;
    }

    static List<byte[]> hold(long limit) {
        List<byte[]> kept = new ArrayList<>();
        long[] used = new long[SIZES.length];
        for (long total = 0; total < limit; ) {
            int size = 0;
            for (int i = 1; i < SIZES.length; i++) if (used[i] < used[size]) size = i;
            byte[] block = new byte[SIZES[size]];
            fill(block, kept.size());
            kept.add(block);
            used[size] += block.length;
            total += block.length;
        }
        return kept;
    }

    public static void main(String[] arguments) throws Exception {
        List<byte[]> kept = hold(Long.parseLong(arguments[0]) << 20);
        System.out.println("warm");
        while (!Files.exists(Path.of("/snapshot-control/go"))) Thread.sleep(1);
        for (int i = 1; i < kept.size(); i += 2) kept.set(i, null);
        int differences = new ProcessBuilder("/bin/true").start().waitFor() == 0 ? 0 : 1, dirty = 0;
        System.gc();
        long end = System.nanoTime() + Long.parseLong(arguments[2]) * 1_000_000_000L;
        while (System.nanoTime() - end < 0) Thread.sleep(50);
        byte[][] made = new byte[Integer.parseInt(arguments[1])][];
        for (int i = 0; i < made.length; i++) {
            made[i] = new byte[16 + i % 40 * 8];
            if (!isZero(made[i])) dirty++;
            fill(made[i], i);
        }
        for (int i = 0; i < made.length; i++) if (!isFilled(made[i], i)) differences++;
        for (int i = 0; i < kept.size(); i += 2) if (!isFilled(kept.get(i), i)) differences++;
        System.out.println(differences + " differences, " + dirty + " of " + made.length + " blocks dirty");
    }
}

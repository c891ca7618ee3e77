/**
 * The few instructions between a boot loader and an unpacked Linux kernel. A boot loader enters in
 * 32-bit mode without paging, `esi` at `struct boot_params` (Linux, Documentation/arch/x86/boot.rst,
 * "32-bit Boot Protocol"); the kernel wants 64-bit mode, the first memory mapped to itself, and `rsi`
 * in place of `esi` ("64-bit Boot Protocol"). It works wherever it is loaded. Its page tables lie in
 * the 24 KiB from 0x1000 on, its stack below 0x800.
 */
const INSTRUCTIONS: readonly (readonly [bytes: string, assembly: string])[] = [
  ["fa fc", "cli; cld"],
  ["8d a6 e8 01 00 00", "lea 0x1e8(%esi),%esp    ; boot_params.scratch"],
  ["e8 00 00 00 00 5d", "call 1f; 1: pop %ebp"],
  ["83 ed 0d", "sub $0xd,%ebp           ; where this is"],
  ["8d a5 00 08 00 00", "lea 0x800(%ebp),%esp"],
  ["8d 85 d0 00 00 00", "lea gdt(%ebp),%eax"],
  ["89 85 f2 00 00 00", "mov %eax,gdtr+2(%ebp)"],
  ["0f 01 95 f0 00 00 00", "lgdt gdtr(%ebp)"],
  ["8d bd 00 10 00 00", "lea 0x1000(%ebp),%edi   ; six empty pages"],
  ["31 c0 b9 00 18 00 00 f3 ab", "xor %eax,%eax; mov $0x1800,%ecx; rep stosl"],
  ["8d 85 03 20 00 00", "lea 0x2003(%ebp),%eax"],
  ["89 85 00 10 00 00", "mov %eax,0x1000(%ebp)   ; level 4 leads to level 3"],
  ["8d bd 00 20 00 00", "lea 0x2000(%ebp),%edi"],
  ["8d 85 03 30 00 00", "lea 0x3003(%ebp),%eax"],
  ["b9 04 00 00 00", "mov $4,%ecx             ; and that to four of level 2"],
  ["89 07 83 c7 08", "2: mov %eax,(%edi); add $8,%edi"],
  ["05 00 10 00 00 e2 f4", "add $0x1000,%eax; loop 2b"],
  ["8d bd 00 30 00 00", "lea 0x3000(%ebp),%edi"],
  ["b8 83 01 00 00", "mov $0x183,%eax         ; pages of 2 MiB, from 0 to 4 GiB"],
  ["b9 00 08 00 00", "mov $2048,%ecx"],
  ["89 07 83 c7 08", "3: mov %eax,(%edi); add $8,%edi"],
  ["05 00 00 20 00 e2 f4", "add $0x200000,%eax; loop 3b"],
  ["0f 20 e0 83 c8 20 0f 22 e0", "mov %cr4,%eax; or $0x20,%eax; mov %eax,%cr4     ; PAE"],
  ["8d 85 00 10 00 00 0f 22 d8", "lea 0x1000(%ebp),%eax; mov %eax,%cr3"],
  ["b9 80 00 00 c0 0f 32", "mov $0xc0000080,%ecx; rdmsr"],
  ["0d 00 01 00 00 0f 30", "or $0x100,%eax; wrmsr   ; EFER.LME"],
  ["6a 10", "push $0x10"],
  ["8d 85 b3 00 00 00 50", "lea long(%ebp),%eax; push %eax"],
  ["0f 20 c0 0d 01 00 00 80 0f 22 c0", "mov %cr0,%eax; or $0x80000001,%eax; mov %eax,%cr0"],
  ["cb", "lret"],
  ["31 c0 8e d8 8e c0 8e d0 8e e0 8e e8", "long: xor %eax,%eax; no segments"],
  ["89 ed 89 f6", "mov %ebp,%ebp; mov %esi,%esi    ; upper halves are zero"],
  ["b8 00 00 00 00", "mov $ENTRY,%eax"],
  ["48 01 e8 ff e0", "add %rbp,%rax; jmp *%rax"],
  ["90 90 90", "gdt begins at 0xd0"],
  ["00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", "gdt: two empty entries"],
  ["ff ff 00 00 00 9a af 00", "0x10: code of 64 bits"],
  ["ff ff 00 00 00 92 cf 00", "0x18: data"],
  ["1f 00 00 00 00 00", "gdtr: limit, address"],
];

const ENTRY_AT = 0xc4;

/** @param entry the kernel's first instruction, bytes behind this code's own first */
export function bootCode(entry: number): Buffer {
  const hex = INSTRUCTIONS.map(([bytes]) => bytes.replaceAll(" ", "")).join("");
  const code = Buffer.from(hex, "hex");
  code.writeUInt32LE(entry, ENTRY_AT);
  return code;
}
